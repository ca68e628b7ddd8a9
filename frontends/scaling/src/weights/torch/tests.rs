//! Files that `torch.save` wrote (`tools/torch_checkpoints.py`), and files that nobody would write.

use bytes::Bytes;
use safetensors::Dtype;

use super::super::file::StateDict;
use super::{CheckpointError, INSTRUCTIONS, read};

/// The name and content of a checkpoint and of its state dict.
macro_rules! pair {
    ($name:literal) => {
        (
            $name,
            include_bytes!(concat!("../../../tests/data/", $name, ".pth")),
            include_bytes!(concat!("../../../tests/data/", $name, ".safetensors")),
        )
    };
}

/// Each checkpoint of `tests/data` with its state dict as safetensors.
const PAIRS: [(&str, &[u8], &[u8]); 7] = [
    pair!("tensors"),
    pair!("tensors_legacy"),
    pair!("protocol_4"),
    pair!("protocol_4_legacy"),
    pair!("run"),
    pair!("run_averaged"),
    pair!("unsigned"),
];

/// A whole model, of `torch.nn.Linear`.
const MODEL: &[u8] = include_bytes!("../../../tests/data/model.pth");

/// Pickles of the magic number and of the protocol, and of the machine.
const HEAD: &[u8] = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.";
const MACHINE: &[u8] = b"\x80\x02}X\x0d\0\0\0little_endian\x88s.";

fn state_dict(name: &str, bytes: &[u8]) -> StateDict {
    StateDict::from_bytes(name, Bytes::copy_from_slice(bytes)).unwrap_or_else(|e| panic!("{e}"))
}

/// A file of the old layout: the instructions of the object, and storage `0` of two floats, if there is one.
fn legacy(object: &[u8]) -> Bytes {
    let keys: &[u8] = if object.contains(&b'Q') { b"\x80\x02]U\x010a." } else { b"\x80\x02]." };
    let storage = [&2u64.to_le_bytes()[..], &1f32.to_le_bytes(), &2f32.to_le_bytes()].concat();
    [HEAD, MACHINE, b"\x80\x02", object, b".", keys, &storage].concat().into()
}

/// Instructions for `{"w": tensor}` over storage `0` with these elements, offset, shape and strides.
fn one_tensor(numel: u8, offset: u8, shape: &[i32], strides: &[i32]) -> Vec<u8> {
    let tuple = |numbers: &[i32]| {
        let numbers: Vec<u8> = numbers.iter().flat_map(|n| [b"J", &n.to_le_bytes()[..]].concat()).collect();
        [b"(", &numbers[..], b"t"].concat()
    };
    let storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK";
    let parts: [&[u8]; 10] = [
        b"}U\x01wctorch._utils\n_rebuild_tensor_v2\n(",
        storage,
        &[numel],
        b"NtQK",
        &[offset],
        &tuple(shape),
        &tuple(strides),
        b"\x89N",
        b"tR",
        b"s",
    ];
    parts.concat()
}

/// A zip archive of stored members, with numbers of 64 bits if it is `wide`.
fn archive(members: &[(&str, &[u8])], wide: bool) -> Vec<u8> {
    let short = |n: usize| (n as u16).to_le_bytes();
    let long = |n: usize| (if wide { u32::MAX } else { n as u32 }).to_le_bytes();
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let extra = [short(1), short(24)].concat();
        let exact = [bytes.len(), bytes.len(), out.len()].map(|n| (n as u64).to_le_bytes()).concat();
        let extra = if wide { [extra, exact].concat() } else { Vec::new() };
        let sizes = [long(bytes.len()), long(bytes.len())].concat();
        let header = out.len();
        out.extend([b"PK\x03\x04", &[0; 14][..], &sizes, &short(name.len()), &[0; 2], name.as_bytes(), bytes].concat());
        let names = [short(name.len()), short(extra.len())].concat();
        let rest = [&[0; 10][..], &long(header), name.as_bytes(), &extra].concat();
        directory.extend([b"PK\x01\x02", &[0; 16][..], &sizes, &names, &rest].concat());
    }
    let (start, count) = (out.len(), members.len());
    out.extend(&directory);
    if wide {
        let end = out.len() as u64;
        let numbers = [count, count, directory.len(), start].map(|n| (n as u64).to_le_bytes()).concat();
        out.extend(
            [b"PK\x06\x06", &[0; 20][..], &numbers, b"PK\x06\x07", &[0; 4], &end.to_le_bytes(), &[0; 4]].concat(),
        );
    }
    let counts = if wide { [0xff; 4] } else { [short(count), short(count)].concat().try_into().unwrap() };
    let sizes = [long(directory.len()), long(start)].concat();
    [&out[..], b"PK\x05\x06", &[0; 4], &counts, &sizes, &short(7), b"comment"].concat()
}

fn error(file: &Bytes) -> String {
    read(file).expect_err("a fault").to_string()
}

#[test]
fn what_torch_saves_is_what_safetensors_holds() {
    for (name, checkpoint, expected) in PAIRS {
        let (found, expected) = (state_dict(name, checkpoint), state_dict(name, expected));
        assert!(found.names().eq(expected.names()), "{name}");
        for (key, tensor) in &expected.tensors {
            let found = &found.tensors[key];
            assert_eq!((found.dtype, &found.shape), (tensor.dtype, &tensor.shape), "{name}: {key}");
            assert_eq!(found.bytes, tensor.bytes, "{name}: {key}");
        }
    }
}

#[test]
fn row_major_tensors_are_slices_of_the_file() {
    for (_, checkpoint, _) in &PAIRS[..2] {
        let file = Bytes::copy_from_slice(checkpoint);
        let tensors = read(&file).unwrap().tensors;
        let inside = |name: &str| file.as_ptr_range().contains(&tensors[name].bytes.as_ptr());
        assert!(["whole", "rows", "half", "double"].into_iter().all(inside));
        assert!(!["transposed", "column", "expanded"].into_iter().any(inside));
    }
}

#[test]
fn the_state_dict_that_is_taken_is_said() {
    let notes = |name: &str| {
        let (_, bytes, _) = PAIRS.iter().find(|(known, ..)| *known == name).unwrap();
        state_dict(name, bytes).notes().join("; ")
    };
    assert_eq!(notes("tensors"), "");
    assert_eq!(notes("run"), "the checkpoint's `state_dict` is taken");
    assert_eq!(notes("run_averaged"), "the checkpoint's `model_ema` is taken, not `model`");
}

#[test]
fn names_that_are_not_allowed_are_refused() {
    let model = StateDict::from_bytes("model.pth", Bytes::from_static(MODEL)).unwrap_err().to_string();
    assert!(model.starts_with("model.pth: ") && model.contains("found `torch.nn.modules.linear.Linear`"), "{model}");
    assert!(model.contains("torch.save(model.state_dict(), \"weights.pth\")"), "{model}");
    for (object, name) in [
        (&b"cos\nsystem\nU\x02ls\x85R"[..], "os.system"),
        (b"cbuiltins\neval\n", "builtins.eval"),
        (b"U\x05posixU\x06system\x93", "posix.system"),
        (b"c__builtin__\ngetattr\n", "__builtin__.getattr"),
        (b"ctorch._utils\n_rebuild_sparse_tensor\n", "torch._utils._rebuild_sparse_tensor"),
        (b"ctorch.load\n\x1b[31m\n", "torch.load.\\u{1b}[31m"),
    ] {
        let Err(CheckpointError::Global { name: found }) = read(&legacy(object)) else { panic!("{name}") };
        assert_eq!(found, name);
    }
}

#[test]
fn tensors_stay_inside_their_storages() {
    let read =
        |numel, offset, shape: &[i32], strides: &[i32]| read(&legacy(&one_tensor(numel, offset, shape, strides)));
    let found = read(2, 1, &[1, 1], &[9, 9]).unwrap();
    assert_eq!((found.tensors["w"].dtype, &found.tensors["w"].bytes[..]), (Dtype::F32, &2f32.to_le_bytes()[..]));
    for (numel, offset, shape, strides) in [
        (3, 0, &[1][..], &[1][..]),
        (2, 1, &[2], &[1]),
        (2, 0, &[2], &[2]),
        (1, 1, &[1], &[1]),
        (2, 0, &[i32::MAX, i32::MAX, i32::MAX], &[0, 0, 0]),
        (2, 0, &[i32::MAX, i32::MAX, i32::MAX], &[i32::MAX, i32::MAX, i32::MAX]),
        (2, 0, &[-1], &[1]),
        (2, 0, &[1], &[-1]),
        (2, 0, &[1], &[]),
        (2, 0, &[1; 65], &[1; 65]),
    ] {
        let error = read(numel, offset, shape, strides).expect_err("a fault").to_string();
        assert!(error.starts_with("tensor w, "), "{error}");
    }
    // Two elements that claim to be a thousand million.
    let error = read(2, 0, &[1 << 30], &[0]).unwrap_err();
    assert!(matches!(error, CheckpointError::Limit { .. }), "{error}");
}

#[test]
fn bombs_and_nonsense_are_errors() {
    let many = INSTRUCTIONS + 1;
    for (what, object) in [
        ("instructions", vec![b'N'; many]),
        ("lists in lists", b"]".repeat(many)),
        ("lists in lists, closed", [b"]".repeat(many / 2), b"a".repeat(many / 2 - 1)].concat()),
        ("marks", b"(".repeat(many)),
        ("copies", {
            let pairs = b"]q\x00(".iter().copied().chain(b"NN\x86".repeat(5000)).chain(*b"e0").collect::<Vec<u8>>();
            [pairs, b"ccollections\nOrderedDict\nh\x00\x85R0".repeat(600)].concat()
        }),
    ] {
        let error = error(&legacy(&object));
        assert!(error.contains("limit") || error.starts_with("checkpoint: "), "{what}: {error}");
    }
    for (object, expected) in [
        (&b"h\x05"[..], "expected a value that was kept before, found number 5"),
        (b"}N\x85R", "expected a class or function to call"),
        (b"t", "expected a mark on the stack"),
        (b"(N0", "expected a value on the stack"),
        (b"}(N0u0", "expected a value on the stack"),
        (b"N(Nu", "expected a value for every key"),
        (b"K\x01Na", "expected a list to add to, found 1"),
        (b"I01\n", "expected an instruction of protocol 2 to 5, found 0x49"),
        (b"X\xff\xff\xff\xff", "expected more bytes, found the end of the file"),
        (b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "expected more bytes, found the end of the file"),
        (b"U\x03keyQ", "expected (\"storage\", class, key, device, elements), found the text \"key\""),
        (b"ctorch\nFloatStorage\n)R", "expected a function, found a class or function"),
        (b"]", "expected a state dict, or one under state_dict_ema, "),
        (b"}U\x05epochK\x03s", "found a dictionary without tensors: epoch"),
    ] {
        let error = error(&legacy(object));
        assert!(error.contains(expected), "{object:?}: {error}");
    }
}

/// The dictionary that holds itself is read like any other.
#[test]
fn what_holds_itself_does_no_harm() {
    let mut object = one_tensor(2, 0, &[2], &[1]);
    object.extend(b"q\x07U\x04selfh\x07sU\x05modelh\x07s");
    let found = read(&legacy(&object)).unwrap();
    assert_eq!(found.tensors.len(), 1);
    assert!(found.notes.last().is_some_and(|note| note == "no tensors, left out: self, model"), "{:?}", found.notes);
}

#[test]
fn other_machines_and_other_files_are_refused() {
    let big = [HEAD, b"\x80\x02}U\x0dlittle_endian\x89s."].concat();
    assert_eq!(error(&big.into()), "little_endian: expected true, found another value");
    assert!(error(&b"\x80\x04N.".as_slice().into()).starts_with("first pickle: expected the magic number"));
    let pickle: &[u8] = b"\x80\x02}.";
    let tensor = [&one_tensor(2, 0, &[2], &[1])[..], b"."].concat();
    for (members, expected) in [
        (&[("a.npy", pickle)][..], "zip archive: expected `data.pkl`, as in a PyTorch checkpoint, found `a.npy`"),
        (&[("m/data.pkl", pickle), ("m/byteorder", b"big")], "byteorder: expected little, found big"),
        (&[("m/data.pkl", pickle), ("m/constants.pkl", pickle)], "found a TorchScript archive"),
        (&[("m/data.pkl", &tensor[..])], "tensor w, storage: expected one of the file, found `0`"),
    ] {
        let error = error(&archive(members, false).into());
        assert!(error.contains(expected), "{error}");
    }
    for (bytes, expected) in [
        (&b"\x89HDF\r\n\x1a\n"[..], "HDF5"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
        (b"<!DOCTYPE html>", "a web page instead of the download?"),
    ] {
        let error = StateDict::from_bytes("w.pth", Bytes::copy_from_slice(bytes)).unwrap_err().to_string();
        assert!(error.starts_with("w.pth: ") && error.contains(expected), "{error}");
    }
}

/// The end of an archive of more than 4 GiB, and of one with a comment.
#[test]
fn archives_of_32_and_64_bits() {
    let tensor = [&one_tensor(2, 1, &[1], &[1])[..], b"."].concat();
    let tensor = [b"\x80\x02", &tensor[..]].concat();
    let storage = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
    let members: [(&str, &[u8]); 3] = [("m/data.pkl", &tensor), ("m/byteorder", b"little"), ("m/data/0", &storage)];
    for wide in [false, true] {
        let file = archive(&members, wide);
        assert_eq!(read(&file.clone().into()).unwrap().tensors["w"].bytes[..], 2f32.to_le_bytes());
        (0..file.len()).for_each(|length| assert!(read(&Bytes::copy_from_slice(&file[..length])).is_err(), "{length}"));
        for at in 0..file.len() {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = file.clone();
                damaged[at] = value;
                drop(read(&damaged.into()));
            }
        }
        let compressed = file.windows(4).position(|w| w == b"PK\x01\x02").unwrap() + 10;
        let mut damaged = file;
        damaged[compressed] = 8;
        assert!(error(&damaged.into()).ends_with("found `m/data.pkl`, compressed or encrypted"));
    }
}

/// A safetensors file whose length begins like a pickle is one of safetensors.
#[test]
fn a_header_of_640_bytes_is_no_pickle() {
    let header = format!("{:<640}", r#"{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#);
    let file = [&640u64.to_le_bytes()[..], header.as_bytes(), &1f32.to_le_bytes()].concat();
    assert_eq!(file[..2], [0x80, 2]);
    assert_eq!(state_dict("w", &file).len(), 1);
}

/// Whatever the bytes are, reading ends in a state dict or an error.
#[test]
fn cut_and_damaged_files_do_no_harm() {
    for (name, checkpoint, _) in &PAIRS[..2] {
        let whole = Bytes::from_static(checkpoint);
        for length in 0..whole.len() {
            assert!(StateDict::from_bytes("cut", whole.slice(..length)).is_err(), "{name}: {length} bytes");
        }
        for (at, draw) in fornax_ir::types::random_values(11, 2 * whole.len()).as_chunks::<2>().0.iter().enumerate() {
            let mut bytes = whole.to_vec();
            bytes[at] = ((draw[0] + 1.0) * 128.0) as u8;
            drop(StateDict::from_bytes("damaged", bytes.into()));
        }
    }
}
