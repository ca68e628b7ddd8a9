//! What follows the sums of a kernel, in registers: the element-wise loop nest that would read them from memory.
//!
//! In: a nest over a map of sums, and which of its inputs they are. Out: for every output of a tile, the element that the nest stores
//! there. Invariant: its program runs as in the nest, on the same lanes, so no bit depends on where it is computed.
//!
//! A nest fits if each of its inputs is like the map, one element for each channel, or one for all; its output is, too, or is a part of the channels of a
//! larger one. The sums are `i32`: a scale and a shift by
//! channel, a residual, an activation, rounding and clipping to 8 bits are such a nest.

mod program;

use super::loops::nest::{LoopNest, Program};
use super::loops::{PointValue, evaluate};
use super::{Access, Argument, Loops};
use crate::codegen::{Element, Emitter, Mem, R, V};
use crate::target::Machine;
use fornax_ir::types::DType;

/// Most inputs besides the sums that move with pixels or channels: each takes a pointer.
const MOST: usize = 4;
/// What the name of a kernel says of its finish begins with.
const WORD: &str = "finish";
/// Registers that a program needs for each output, its value among them, and for all of them.
const REGISTERS: (usize, usize) = (2, 3);

/// Something for each input that moves, in order.
pub type Moved<T> = [Option<T>; MOST];

/// Where the elements of an input lie.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Place {
    /// They are the sums.
    Sums,
    /// At the same place as those of the map.
    Map,
    /// One for each channel.
    Channel,
    /// One for all.
    Single,
}

/// A nest in place of the store of sums.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Finish {
    loops: Loops,
    places: Vec<Place>,
    /// What it computes.
    program: Program,
    /// Where the results of the first pixel lie in the output, and how far apart those of pixels are, in elements.
    part: Part,
}

/// A part of the channels of a map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Part {
    first: usize,
    pitch: usize,
}

/// A sum on its way to memory.
#[derive(Clone, Copy, Debug)]
pub struct Unfinished {
    /// The sum; its value stays.
    pub sum: V,
    /// Where the result goes.
    pub to: Mem,
    /// How many of its lanes exist.
    pub lanes: usize,
    /// Where the inputs that move are read.
    pub at: Moved<Mem>,
}

/// A pointer to an input that moves, and how.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pointer {
    /// The pointer.
    pub at: R,
    /// Bytes of an element.
    pub size: usize,
    /// Whether it moves with the pixels, not with the channels alone.
    pub by_pixel: bool,
}

impl Finish {
    /// The nest `loops`, whose input `sums` is a map of `pixels` by `channels` sums, channels innermost, as what follows these. `None` if it does not
    /// fit.
    pub fn new(loops: &Loops, sums: usize, [pixels, channels]: [usize; 2]) -> Option<Self> {
        let nest = loops.nest();
        let count = pixels.checked_mul(channels).filter(|count| *count > 0)?;
        let bare = nest.reduced == 0 && nest.tables.is_empty() && nest.guards.is_empty();
        let plain = bare && nest.init.is_empty() && nest.finish.is_empty() && !nest.body.is_empty();
        if !plain || nest.check_kinds().is_err() || !nest.vectorises() || nest.lane() != Element::F32 {
            return None;
        }
        let (map, channel): (&[i64], &[i64]) = match nest.extents[..] {
            [all] if all == count => (&[1], &[-1]),
            [rows, columns] if rows == pixels && columns == channels => (&[channels as i64, 1], &[0, 1]),
            _ => return None,
        };
        let part = part(nest, [pixels, channels])?;
        let places = nest.inputs.iter().enumerate().map(|(k, input)| {
            let strides = &input.at.strides[..];
            let place = match strides {
                _ if input.at.base != 0 || !input.lookups.is_empty() => return None,
                _ if strides == map && input.elements == count => Place::Map,
                _ if strides == channel && input.elements == channels => Place::Channel,
                _ if strides.iter().all(|stride| *stride == 0) && input.elements > 0 => Place::Single,
                _ => return None,
            };
            match (k == sums, place) {
                (true, Place::Map) if input.dtype == DType::I32 => Some(Place::Sums),
                (true, _) => None,
                (false, place) => Some(place),
            }
        });
        let (places, program) = (places.collect::<Option<_>>()?, program::compact(nest));
        let finish = Self { loops: loops.clone(), places, program, part };
        (finish.places.contains(&Place::Sums) && finish.moved().count() <= MOST).then_some(finish)
    }

    /// The nest of a kernel called `name` over such a map, if it is the one that the name means.
    pub fn named(loops: &Loops, name: &str, map: [usize; 2]) -> Option<Self> {
        let word = name.rsplit_once('_')?.1;
        let inputs = 0..loops.nest().inputs.len();
        inputs.filter_map(|sums| Self::new(loops, sums, map)).find(|finish| finish.word() == word)
    }

    /// The name of a kernel without its finish, if it has one.
    pub fn without(name: &str) -> Option<&str> {
        name.rsplit_once('_').filter(|(_, word)| word.starts_with(WORD)).map(|(kernel, _)| kernel)
    }

    /// What it is called in the name of a kernel: a hash of the nest's name, and of which input the sums are.
    pub fn word(&self) -> String {
        let sums = self.places.iter().position(|place| *place == Place::Sums).unwrap_or(0);
        let hash = xxhash_rust::xxh3::xxh3_64(format!("{sums} {}", super::Family::name(&self.loops)).as_bytes());
        format!("{WORD}{hash:016x}")
    }

    /// The nest.
    pub fn loops(&self) -> &Loops {
        &self.loops
    }

    /// Type of the elements that are stored.
    pub fn result(&self) -> DType {
        self.loops.nest().output.dtype
    }

    /// The argument that is written, for a map of so many elements.
    pub fn written(&self, count: usize) -> Argument {
        let output = &self.loops.nest().output;
        let access = if output.elements == count { Access::Write } else { Access::Update };
        Argument { access, ..Argument::write("y", output.dtype, output.elements) }
    }

    /// Where the results begin in what is written, bytes.
    pub fn first(&self) -> usize {
        self.part.first * self.result().size()
    }

    /// Elements from the results of one pixel to those of the next.
    pub fn pitch(&self) -> usize {
        self.part.pitch
    }

    /// Inputs besides the sums, by number.
    pub fn others(&self) -> impl Iterator<Item = usize> {
        (0..self.places.len()).filter(|k| self.places[*k] != Place::Sums)
    }

    /// Whether an input other than the sums is like the map.
    pub fn reads_maps(&self) -> bool {
        self.places.contains(&Place::Map)
    }

    /// Inputs that move, by number.
    fn moved(&self) -> impl Iterator<Item = usize> {
        self.others().filter(|k| self.places[*k] != Place::Single)
    }

    /// What it reads, as arguments of a kernel.
    pub fn arguments(&self) -> impl Iterator<Item = Argument> {
        let inputs = &self.loops.nest().inputs;
        self.others().map(|k| Argument::read(inputs[k].name, inputs[k].dtype, inputs[k].elements))
    }

    /// Pointers to the inputs that move, of those that are the kernel's arguments from `first` on.
    pub fn pointers(&self, e: &mut dyn Emitter, first: usize) -> Moved<Pointer> {
        let mut pointers = Moved::default();
        let moved = self.others().enumerate().filter(|(_, k)| self.places[*k] != Place::Single);
        for (pointer, (argument, k)) in pointers.iter_mut().zip(moved) {
            let (size, by_pixel) = (self.loops.nest().inputs[k].dtype.size(), self.places[k] == Place::Map);
            *pointer = Some(Pointer { at: e.pointer(first + argument), size, by_pixel });
        }
        pointers
    }

    /// Multiply-adds that could begin while so many outputs are computed, in vectors.
    pub fn slots(&self, outputs: u64, machine: &Machine) -> f64 {
        outputs as f64 / machine.lanes as f64 * self.program.len() as f64
    }

    /// Computes the results of sums and stores them; `first` is the kernel's first argument that is an input. Outputs whose inputs by channel are the
    /// same follow one another.
    pub fn store(&self, e: &mut dyn Emitter, first: usize, outputs: &[Unfinished]) {
        for alike in outputs.chunk_by(|a, b| self.by_channel(a).eq(self.by_channel(b)) && a.lanes == b.lanes) {
            for group in alike.chunks(together(e, alike.len())) {
                self.compute(e, first, group);
            }
        }
    }

    /// Where an output's inputs by channel lie.
    fn by_channel(&self, output: &Unfinished) -> impl Iterator<Item = Option<Mem>> {
        let at = output.at;
        self.moved().zip(at).filter(|(k, _)| self.places[*k] == Place::Channel).map(|(_, at)| at)
    }

    fn compute(&self, e: &mut dyn Emitter, first: usize, group: &[Unfinished]) {
        let nest = self.loops.nest();
        let lanes = group[0].lanes;
        let values = evaluate(e, &self.program, &[], true, &mut |e, k| {
            let dtype = nest.inputs[k].dtype;
            let slot = self.moved().position(|moved| moved == k);
            let at = |output: &Unfinished| slot.and_then(|slot| output.at[slot]);
            let load = |e: &mut dyn Emitter, output: &Unfinished| {
                let v = e.v();
                at(output).into_iter().for_each(|at| e.load_as(v, at, dtype, lanes));
                v
            };
            let vectors = match self.places[k] {
                Place::Sums => group.iter().map(|output| output.sum).collect(),
                Place::Map => group.iter().map(|output| load(e, output)).collect(),
                Place::Channel => vec![load(e, &group[0])],
                Place::Single => {
                    let argument = self.others().position(|other| other == k).unwrap_or(0);
                    vec![single(e, first + argument, dtype)]
                }
            };
            if dtype == DType::F32 { PointValue::Float(vectors) } else { PointValue::Lanes(vectors) }
        });
        let Some(result) = values.last() else { return };
        for (point, output) in group.iter().enumerate() {
            match result {
                PointValue::Float(_) => e.store(result.vector(point), output.to, lanes),
                _ => e.store_as(result.vector(point), output.to, nest.output.dtype, lanes),
            }
        }
    }
}

/// Where a nest over a map of so many pixels and channels stores its results, if they are parts of pixels.
fn part(nest: &LoopNest, [pixels, channels]: [usize; 2]) -> Option<Part> {
    let first = usize::try_from(nest.output.at.base).ok()?;
    let pitch = match nest.output.at.strides[..] {
        [1] => channels,
        [pitch, 1] => usize::try_from(pitch).ok().filter(|pitch| *pitch >= channels)?,
        _ => return None,
    };
    let end = pitch.checked_mul(pixels - 1)?.checked_add(first)?.checked_add(channels)?;
    (end <= nest.output.elements).then_some(Part { first, pitch })
}

/// The element that an argument is, in every lane.
fn single(e: &mut dyn Emitter, argument: usize, dtype: DType) -> V {
    let (at, v) = (e.pointer(argument), e.v());
    if dtype.size() == Element::I32.size() {
        e.broadcast(v, at.at(0));
    } else {
        e.load_int(at, at.at(0), dtype);
        e.splat_int(Element::I32, v, at);
    }
    e.free_r(at);
    v
}

/// How many of `outputs` are computed together, as even as they get.
fn together(e: &dyn Emitter, outputs: usize) -> usize {
    let most = (e.budget().saturating_sub(REGISTERS.1) / REGISTERS.0).max(1);
    outputs.div_ceil(outputs.div_ceil(most)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::epilogue::Epilogue;
    use crate::kernels::conv::{Axis, Conv};
    use crate::kernels::depthwise::Depthwise;
    use crate::kernels::loops::nest::{Affine, Inst, LoopNest, Output};
    use crate::kernels::{Kernel, Spec, testing, text};
    use crate::target::Target;
    use fornax_ir::scalar::{BinaryFn, UnaryFn};

    /// Scaled, shifted and clipped by channel, in steps from a zero point, with another map of bytes added if asked for, as `to`.
    fn quantised(map: [usize; 2], with_map: bool, to: DType) -> Loops {
        quantised_into(map, with_map, to, [0, map[1], map[0] * map[1]])
    }

    /// The same into elements of a larger map: the first, the distance of pixels, and all.
    fn quantised_into(
        [pixels, channels]: [usize; 2],
        map: bool,
        to: DType,
        [first, pitch, elements]: [usize; 3],
    ) -> Loops {
        let like = |strides: [usize; 2]| Affine::new(0, strides.map(|stride| stride as i64));
        let (whole, count) = ([channels, 1], pixels * channels);
        let at = Affine { base: first as i64, ..like([pitch, 1]) };
        let output = Output { dtype: to, elements, at };
        let mut nest = LoopNest::map(&[pixels, channels], output, Vec::new());
        nest.input("a", DType::I32, count, like(whole));
        nest.input("b", DType::F32, channels, like([0, 1]));
        nest.input("c", DType::F32, channels, like([0, 1]));
        nest.input("d", DType::F32, 1, like([0, 0]));
        nest.input("e", DType::U8, 1, like([0, 0]));
        let add = |a, b| Inst::Binary(BinaryFn::Add, a, b);
        nest.body = vec![
            Inst::Load(0),
            Inst::ToFloat(0),
            Inst::Load(1),
            Inst::Binary(BinaryFn::Mul, 1, 2),
            Inst::Load(2),
            add(3, 4),
            Inst::Unary(UnaryFn::Clip(-3.0, 6.0), 5),
            Inst::Load(3),
            Inst::Binary(BinaryFn::Div, 6, 7),
            Inst::Unary(UnaryFn::Round, 8),
            Inst::Load(4),
            Inst::ToFloat(10),
            add(9, 11),
        ];
        if map {
            let input = nest.input("f", DType::U8, count, like(whole));
            nest.body.extend([Inst::Load(input), Inst::ToFloat(13), add(12, 14)]);
        }
        let last = nest.body.len() - 1;
        match to {
            DType::F32 => {}
            _ => nest.body.extend([Inst::Unary(UnaryFn::Clip(0.0, 255.0), last), Inst::ToInt(to, last + 1)]),
        }
        Loops::new("quantise", nest)
    }

    fn floats(seed: u64, count: usize) -> Vec<u8> {
        testing::values(seed, count).into_iter().flat_map(f32::to_le_bytes).collect()
    }

    fn bytes(seed: u64, count: usize, most: f32) -> Vec<u8> {
        testing::values(seed, count).into_iter().map(|v| (v.abs() * most) as u8).collect()
    }

    /// Whether a kernel that ends in a nest gives what the nest gives of its sums; the fault if not.
    fn check(spec: impl Into<Spec>, map: [usize; 2], with_map: bool, to: DType) -> Option<String> {
        check_nest(spec.into(), map, with_map, quantised(map, with_map, to))
    }

    fn check_nest(spec: Spec, map: [usize; 2], with_map: bool, loops: Loops) -> Option<String> {
        let arguments = Kernel::new(spec.clone(), &Target::x86_64_fma()).arguments;
        let read = arguments.iter().filter(|argument| argument.access == super::super::Access::Read);
        let inputs: Vec<Vec<u8>> = read.zip(1..).map(|(argument, seed)| bytes(seed, argument.bytes, 127.0)).collect();
        let mut others = vec![floats(11, map[1]), floats(12, map[1]), 0.02f32.to_le_bytes().to_vec(), vec![7]];
        others[0].as_chunks_mut::<4>().0.iter_mut().for_each(|v| *v = (f32::from_le_bytes(*v) * 1e-9).to_le_bytes());
        others.extend(with_map.then(|| bytes(13, map[0] * map[1], 99.0)));
        let Some(whole) = spec.finished(|found| Finish::new(&loops, 0, found)) else {
            return Some(format!("{}: no such kernel", spec.name()));
        };
        if text::with_nest(&whole.name(), loops.clone()) != Some(whole.clone()) || text::spec(&whole.name()).is_some() {
            return Some(format!("{}: other than its text", whole.name()));
        }
        let sums = testing::run_exact(spec, &inputs);
        let expected = sums.and_then(|sums| testing::run_exact(loops, &[sums, others.clone()].concat()));
        match (expected, testing::run_exact(whole.clone(), &[inputs, others].concat())) {
            (Ok(expected), Ok(found)) => {
                (found != expected).then(|| format!("{}: other elements than the nest's", whole.name()))
            }
            (Err(text), _) | (_, Err(text)) => Some(text),
        }
    }

    fn axis([input, kernel, stride, begin]: [usize; 4]) -> Axis {
        Axis { input, output: (input + 2 * begin - kernel) / stride + 1, kernel, stride, dilation: 1, begin }
    }

    #[test]
    fn sums_become_what_the_nest_makes_of_them() {
        let pointwise = |pixels, channels, filters| Conv {
            element: DType::I16,
            ..Conv::pointwise(pixels, channels, filters, Epilogue::default())
        };
        let image = |[batch, groups, channels, filters]: [usize; 4], rows, columns| Conv {
            batch,
            groups,
            rows: axis(rows),
            columns: axis(columns),
            ..pointwise(1, channels, filters)
        };
        let cases = [
            (pointwise(7, 5, 24), [7, 24]),
            (pointwise(1, 64, 33), [1, 33]),
            (pointwise(301, 40, 3), [301, 3]),
            (pointwise(50, 16, 1), [50, 1]),
            (image([2, 1, 6, 12], [9, 3, 1, 1], [11, 3, 2, 1]), [2 * 9 * 6, 12]),
            (image([1, 3, 2, 20], [5, 1, 1, 0], [6, 1, 1, 0]), [30, 60]),
            (image([1, 2, 4, 6], [5, 3, 1, 1], [8, 3, 1, 1]), [40, 12]),
        ];
        let kinds = [(false, DType::U8), (true, DType::U8), (true, DType::I16), (false, DType::F32)];
        testing::report(
            cases.iter().flat_map(|(conv, map)| kinds.map(|(with_map, to)| check(conv.clone(), *map, with_map, to))),
        );
    }

    /// What lies beside a part stays as it is.
    #[test]
    fn results_may_be_parts_of_pixels() {
        let conv = Conv { element: DType::I16, ..Conv::pointwise(13, 6, 20, Epilogue::default()) };
        let (rows, columns) = (axis([9, 3, 1, 1]), axis([11, 3, 2, 1]));
        let image = Conv { rows, columns, ..conv.clone() };
        let cases = [(conv, [13, 20]), (image, [54, 20])];
        testing::report(cases.iter().flat_map(|(conv, map)| {
            [(DType::U8, 0, 33), (DType::F32, 13, 33), (DType::I16, 2, 22)].map(|(to, first, pitch)| {
                let loops = quantised_into(*map, true, to, [first, pitch, map[0] * pitch]);
                check_nest(conv.clone().into(), *map, true, loops)
            })
        }));
        let beyond = quantised_into([13, 20], false, DType::U8, [14, 33, 13 * 33]);
        assert_eq!(Finish::new(&beyond, 0, [13, 20]), None);
    }

    #[test]
    fn sums_of_single_channels_do_too() {
        let depthwise = |channels, extent: usize, kernel: usize, stride: usize| {
            let output = (extent + 2 * (kernel / 2) - kernel) / stride + 1;
            let spec = Depthwise {
                element: DType::I16,
                batch: 2,
                channels,
                gaps: [0, 0],
                input: [extent; 2],
                output: [output; 2],
                kernel: [kernel; 2],
                strides: [stride; 2],
                dilations: [1, 1],
                pads: [kernel / 2; 2],
                epilogue: Epilogue::default(),
                transposed: false,
                finish: None,
            };
            (spec, [2 * output * output, channels])
        };
        let cases = [depthwise(8, 7, 3, 1), depthwise(20, 13, 5, 2), depthwise(70, 6, 3, 2), depthwise(1, 5, 3, 1)];
        let kinds = [DType::U8, DType::I8, DType::F32];
        testing::report(cases.iter().flat_map(|(spec, map)| kinds.map(|to| check(spec.clone(), *map, false, to))));
        let (spec, map) = &cases[0];
        assert!(
            Spec::from(spec.clone()).finished(|map| Finish::new(&quantised(map, true, DType::U8), 0, map)).is_none()
        );
        assert!(check(spec.clone(), [map[0], 9], false, DType::U8).is_some(), "another map");
    }

    #[test]
    fn other_nests_are_declined() {
        let loops = quantised([6, 4], false, DType::U8);
        assert!(Finish::new(&loops, 0, [6, 4]).is_some());
        assert_eq!([[4, 6], [24, 1], [6, 5], [0, 4]].map(|map| Finish::new(&loops, 0, map)), [None, None, None, None]);
        // The scale is no map of sums.
        assert_eq!([1, 4, 9].map(|sums| Finish::new(&loops, sums, [6, 4])), [None, None, None]);
        let (mut moved, mut turned) = (loops.written().clone(), loops.written().clone());
        moved.inputs[1].at.base = 1;
        turned.output.at.strides = vec![1, 6];
        assert_eq!([moved, turned].map(|nest| Finish::new(&Loops::new("x", nest), 0, [6, 4])), [None, None]);
    }
}
