//! Weights and biases that are inputs: the kernels of constant ones, after steps that pack, and the same bits.

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{TensorType, random_values};

use crate::harness::{difference, kernels, output};

/// Operands after the first, all `f32`, and the node that takes them as `%x`, `%w`, `%b`, …
type Case = (&'static str, &'static [&'static str], &'static str);

const CASES: &[Case] = &[
    ("[1,3,9,8]", &["[17,3,3,3]", "[17]"], "conv {strides=[2,2],pads=[1,1,1,1],bias=true,activation=silu}"),
    ("[2,4,5,6]", &["[8,4,1,1]"], "conv {strides=[1,1]}"),
    ("[1,40,1,1]", &["[33,40,1,1]", "[33]"], "conv {bias=true}"),
    ("[2,9,1,1]", &["[5,9,1,1]"], "conv {strides=[1,1]}"),
    ("[2,6,5,6]", &["[6,1,3,3]", "[6]"], "conv {pads=[1,1,1,1],group=6,bias=true,activation=relu}"),
    ("[1,40,8,7]", &["[40,1,5,5]"], "conv {pads=[2,2,2,2],group=40}"),
    ("[1,6,7,7]", &["[4,3,3,2]", "[4]"], "conv {group=2,dilations=[2,1],pads=[2,0,2,1],bias=true}"),
    ("[2,6,5,5]", &["[40,3,3,3]", "[40]"], "conv {group=2,pads=[1,1,1,1],bias=true}"),
    ("[1,5,40,40]", &["[40,5,3,3]"], "conv {pads=[1,1,1,1]}"),
    ("[3,4,11]", &["[5,4,3]"], "conv {strides=[2],pads=[1,0],dilations=[1]}"),
    ("[2,7,5,6]", &["[7,20,1,1]", "[20]"], "conv_transpose {bias=true}"),
    ("[1,9,1,1]", &["[9,40,1,1]"], "conv_transpose {strides=[1,1]}"),
    ("[2,6,5,6]", &["[6,20,3,3]", "[20]"], "conv_transpose {pads=[1,1,1,1],bias=true}"),
    ("[1,5,9,7]", &["[5,33,3,3]"], "conv_transpose {strides=[2,2],pads=[0,0,1,1]}"),
    ("[1,6,5,5]", &["[6,7,3,2]"], "conv_transpose {group=2,dilations=[2,1],pads=[2,0,2,1]}"),
    ("[2,20,7,8]", &["[20,1,3,3]", "[20]"], "conv_transpose {group=20,pads=[1,1,1,1],bias=true}"),
    ("[1,17,7,8]", &["[17,1,5,5]"], "conv_transpose {group=17,strides=[2,2],pads=[2,1,1,2]}"),
    ("[9,7]", &["[7,19]"], "matmul"),
    ("[2,7]", &["[7,19]"], "matmul"),
    ("[64,30]", &["[30,128]"], "matmul"),
    ("[2,3,4,5]", &["[5,6]"], "matmul"),
    ("[2,4,5]", &["[5]"], "matmul"),
    ("[2,9,5]", &["[2,5,21]"], "matmul"),
    ("[9,7]", &["[19,7]", "[19]"], "gemm {trans_b=true,bias=true,activation=relu}"),
    ("[3,7]", &["[7,33]", "[1,33]"], "gemm {bias=true,alpha=-1,beta=3}"),
    ("[7,9]", &["[7,40]", "[]"], "gemm {trans_a=true,bias=true,beta=0.3}"),
    ("[70,9]", &["[20,70]"], "gemm {trans_a=true,trans_b=true,alpha=-1}"),
];

/// The graph's inputs and nodes with the operands after the first as constants or as inputs.
fn graph((x, operands, node): &Case, constant: bool) -> (String, String) {
    let (op, attributes) = node.split_once(' ').unwrap_or((node, ""));
    let names = ["w", "b"];
    let (mut header, mut body, mut call) = (format!("%x: f32{x}"), String::new(), format!("%y = {op} %x"));
    for (seed, (name, ty)) in (5..).zip(names.iter().zip(*operands)) {
        match constant {
            true => body += &format!("%{name} = constant f32{ty} random({seed})\n"),
            false => header += &format!(", %{name}: f32{ty}"),
        }
        call += &format!(", %{name}");
    }
    (header, format!("{body}{call} {attributes}"))
}

/// Seeded elements, those of `constant f32… random(seed)`.
fn values(ty: &str, seed: u64) -> Literal {
    let shape: Vec<usize> = ty.trim_matches(['[', ']']).split(',').filter_map(|extent| extent.parse().ok()).collect();
    let count = shape.iter().product();
    let ty = TensorType::f32(shape);
    Literal::new_float(ty, random_values(seed, count).iter().map(|v| f64::from(*v)).collect())
}

#[test]
fn computed_weights_give_the_bits_of_constant_ones() {
    let mut wrong = Vec::new();
    for case in CASES {
        let (x, operands, node) = case;
        let x = values(x, 1);
        let own: Vec<Literal> = (5..).zip(*operands).map(|(seed, ty)| values(ty, seed)).collect();
        let of = |constant: bool, inputs: &[Literal]| {
            let (header, body) = graph(case, constant);
            output(&header, &body, inputs)
        };
        let all: Vec<Literal> = [x.clone()].into_iter().chain(own).collect();
        match (of(true, &[x]), of(false, &all)) {
            (Ok(constant), Ok(computed)) if constant == computed => {}
            (Ok(_), Ok(_)) => wrong.push(format!("{node} {operands:?}: other bits")),
            (constant, computed) => wrong.push(format!("{node}: {:?} {:?}", constant.err(), computed.err())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn computed_weights_run_on_the_kernels_of_constant_ones() {
    for case in CASES {
        let of = |constant: bool| {
            let (header, body) = graph(case, constant);
            let all = kernels(&header, &body).into_iter();
            all.filter(|name| !name.starts_with("f32_pack_")).collect::<Vec<_>>()
        };
        assert_eq!(of(false), of(true), "{case:?}");
    }
}

/// Matrices whose elements times `alpha` overflow, or lose digits, constant or computed.
#[test]
fn factors_of_a_product_do_not_leave_the_numbers() {
    let of = |shape: &[usize], values: &[f32]| Literal::from_f32(shape, values);
    let cases = [
        (3e38f32, [1e-20f32, 2e-20], 1024.0f32),
        (-2e38, [1e-30, 1e-35], 524_288.0),
        (1e-38, [1e20, 3e25], 0.001_953_125),
        (1e-44, [1e30, 1e35], 0.5),
        (1.5, [1.0, -2.0], -4.0),
    ];
    for (w, x, alpha) in cases {
        for (rows, bias) in [(1, ""), (40, ""), (1, ", %c"), (40, ", %c")] {
            let (x, c) = (of(&[rows, 2], &x.repeat(rows)), of(&[1, 33], &[w * 1e-3; 33]));
            let head = format!("%x: f32[{rows},2]");
            let flags = format!("alpha={alpha},beta=2,activation=leaky_relu(0.5),bias={}", !bias.is_empty());
            let node = format!("%y = gemm %x, %w{bias} {{{flags}}}");
            let constant = |name: &str, shape: &str, v: f32, n: usize| {
                format!("%{name} = constant f32{shape} [{}]\n", vec![format!("{v:e}"); n].join(", "))
            };
            let known = constant("w", "[2,33]", w, 66) + &constant("c", "[1,33]", w * 1e-3, 33);
            assert_eq!(difference(&head, &format!("{known}{node}"), Some(vec![x.clone()]), 1e-6), Ok(()), "{node}");
            let head = format!("{head}, %w: f32[2,33], %c: f32[1,33]");
            let inputs = vec![x, of(&[2, 33], &[w; 66]), c];
            assert_eq!(difference(&head, &node, Some(inputs), 1e-6), Ok(()), "{head} {node}");
        }
    }
}

#[test]
fn products_of_computed_operands() {
    let rows = [
        ("%a: f32[2,3,4,5], %b: f32[3,5,6]", "%y = matmul %a, %b"),
        ("%a: f32[2,1,4,5], %b: f32[3,5,20]", "%y = matmul %a, %b"),
        ("%a: f32[4,5], %b: f32[2,5,3]", "%y = matmul %a, %b"),
        ("%a: f32[5], %b: f32[2,5,3]", "%y = matmul %a, %b"),
        ("%a: f32[2,1,5], %b: f32[2,5,40]", "%y = matmul %a, %b"),
        ("%a: f32[2,3,0], %b: f32[2,0,4]", "%y = matmul %a, %b"),
        ("%a: f32[0,3,2], %b: f32[0,2,4]", "%y = matmul %a, %b"),
        ("%a: f32[3,0], %b: f32[0,4]", "%y = matmul %a, %b"),
        ("%a: f32[30,0], %b: f32[0,4]", "%y = gemm %a, %b"),
        ("%a: f32[2,7,5]", "%b = constant f32[2,5,9] random(3)\n%y = matmul %a, %b"),
        ("%a: f32[2,3,7,5]", "%b = constant f32[3,5,9] random(3)\n%y = matmul %a, %b"),
        // The operand of a channel-last convolution, and one computed in the graph.
        ("%a: f32[6,4,3,3], %x: f32[1,4,7,6]", "%w = relu %a\n%y = conv %x, %w {pads=[1,1,1,1]}"),
        (
            "%x: f32[1,4,9,9], %w: f32[8,4,3,3], %v: f32[6,8,7,7]",
            "%c = conv %v, %v {group=1,pads=[0,0,0,0]}\n%d = conv %x, %w {pads=[1,1,1,1]}\n%e = reduce %c {kind=sum,axes=[1,2,3],keepdims=false}\n%f = constant f32[6,8,1,1] random(4)\n%y = conv %d, %f, %e {bias=true}",
        ),
        // Attention: queries times transposed keys, then times values.
        (
            "%q: f32[2,3,10,8], %k: f32[2,3,12,8], %v: f32[2,3,12,8]",
            "%t = transpose %k {perm=[0,1,3,2]}\n%s = matmul %q, %t\n%p = softmax %s {axis=3}\n%y = matmul %p, %v",
        ),
        // The derivative of a weight, and one by the other operand.
        ("%x: f32[33,20], %d: f32[33,18]", "%y = gemm %x, %d {trans_a=true}"),
        ("%d: f32[33,18], %w: f32[20,18]", "%y = gemm %d, %w {trans_b=true}"),
    ];
    let wrong: Vec<String> = rows
        .iter()
        .filter_map(|(header, body)| {
            difference(header, body, None, 1e-4).err().map(|error| format!("{header} {body}: {error}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
