//! Generic operators in native code, compared with the reference evaluator over awkward shapes, on one thread and on three: the result
//! must not depend on how chunks are claimed. Every row of a table that fails is reported.

mod computed;
mod functions;
mod gradients;
mod harness;
mod wide;

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::random_values;
use harness::{difference, steps};

/// Fails with every row of `(inputs, nodes)` that does not agree with the evaluator.
fn check(rows: &[(&str, &str)]) {
    check_within(2e-6, rows);
}

/// As [`check`], for sums of many terms: errors up to `tolerance` of the larger of the result and 1.
fn check_within(tolerance: f64, rows: &[(&str, &str)]) {
    let failures: Vec<String> = rows
        .iter()
        .filter_map(|(header, body)| {
            Some(format!("({header}) {body}: {}", difference(header, body, None, tolerance).err()?))
        })
        .collect();
    assert!(failures.is_empty(), "{} of {} rows\n{}", failures.len(), rows.len(), failures.join("\n"));
}

/// Nodes that give `%c`, a channel-last value of shape [2,5,3,4], from `%x: f32[2,3,3,4]`.
const CHANNEL_LAST: &str = "%w = constant f32[5,3,1,1] random(3)\n%c = conv %x, %w\n";

/// As [`check`], each row after [`CHANNEL_LAST`].
fn check_channel_last(nodes: &[&str]) {
    let rows: Vec<String> = nodes.iter().map(|node| format!("{CHANNEL_LAST}{node}")).collect();
    check(&rows.iter().map(|body| ("%x: f32[2,3,3,4]", body.as_str())).collect::<Vec<_>>());
}

#[test]
fn element_wise_operators_broadcast() {
    let pairs = [
        "f32[2,3,4], %b: f32[2,3,4]",
        "f32[70001], %b: f32[70001]",
        "f32[2,1,4], %b: f32[3,1]",
        "f32[], %b: f32[17]",
        "f32[0,3], %b: f32[3]",
        "f32[], %b: f32[]",
    ];
    let mut rows: Vec<(String, String)> = Vec::new();
    for operator in [
        "add",
        "sub",
        "mul",
        "div",
        "min",
        "max",
        "prelu",
        "equal",
        "less",
        "less_or_equal",
        "greater",
        "greater_or_equal",
    ] {
        rows.extend(pairs.iter().map(|pair| (format!("%a: {pair}"), format!("%y = {operator} %a, %b"))));
    }
    for operator in [
        "add",
        "sub",
        "mul",
        "div",
        "mod",
        "fmod",
        "pow",
        "min",
        "max",
        "and",
        "or",
        "xor",
        "less",
        "equal",
        "greater_or_equal",
    ] {
        for ty in ["i8", "u8", "i16", "i32", "u32", "i64"] {
            rows.push((format!("%a: {ty}[5,7], %b: {ty}[7]"), format!("%y = {operator} %a, %b")));
        }
    }
    rows.extend(
        ["and", "or", "xor", "equal"].map(|op| ("%a: bool[3,5], %b: bool[5]".into(), format!("%y = {op} %a, %b"))),
    );
    rows.extend(
        ["f32", "u8", "i64"]
            .map(|ty| (format!("%c: bool[3,1], %a: {ty}[3,5], %b: {ty}[]"), "%y = where %c, %a, %b".into())),
    );
    check(&rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
}

#[test]
fn mixed_layouts_are_read_in_place() {
    check_channel_last(&[
        "%y = relu %c",
        "%y = identity %c",
        "%b = constant f32[5,1,1] random(9)\n%y = add %c, %b",
        "%b = constant f32[2,5,3,4] random(9)\n%y = mul %b, %c",
        "%b = constant f32[4] random(9)\n%y = sub %c, %b",
        "%y = mul %c, %c",
        "%y = reshape %c {shape=[2,60]}",
        "%y = transpose %c {perm=[0,2,3,1]}",
        "%y = transpose %c {perm=[3,1,0,2]}",
        "%y = concat %c, %x, %c {axis=1}",
        "%y = concat %c, %c {axis=3}",
        "%y = slice %c {starts=[0,1,2,0],sizes=[2,2,1,4]}",
        "%y = slice %c {starts=[1,4,0,3],steps=[-1,-2,1,-1],sizes=[2,3,3,4]}",
        "%y = pad %c {pads=[0,1,2,0,0,0,1,3],value=1.5}",
        "%y = pad %c {pads=[0,0,1,2,0,0,2,1],mode=reflect}",
        "%y = tile %c {repeats=[1,2,1,3]}",
        "%y = reduce %c {kind=mean,axes=[2,3]}",
        "%y = reduce %c {kind=max,axes=[1],keepdims=false}",
        "%y = softmax %c {axis=1}",
        "%y = lrn %c {size=3}",
        "%y = arg_reduce %c {axis=1}",
    ]);
}

#[test]
fn nodes_have_several_results() {
    let x = "%x: f32[2,5,3]";
    check(&[
        (x, "%a, %b = split %x {axis=1,sizes=[2,3]}\nreturn %b as \"b\", %a as \"a\", %b as \"again\""),
        (x, "%a, %b, %y = split %x {axis=1,sizes=[1,3,1]}"),
        (x, "%z = neg %x\n%a, %b = split %z {axis=2,sizes=[2,1]}\n%y = mul %a, %b\nreturn %y as \"y\", %b as \"b\""),
        (x, "%a, %b = split %x {axis=2,sizes=[3,0]}\nreturn %b as \"b\", %a as \"a\""),
        ("%x: i8[6]", "%a, %b = split %x {sizes=[1,5]}\nreturn %a as \"a\", %b as \"b\""),
    ]);
    check_channel_last(&["%a, %y = split %c {axis=1,sizes=[1,4]}"]);
}

#[test]
fn largest_and_smallest_elements_are_found_with_their_indices() {
    let both = "return %v as \"v\", %i as \"i\"";
    let mut rows: Vec<(String, String)> = Vec::new();
    for ty in ["f32", "i32", "i64", "u8", "i8"] {
        for attributes in ["axis=1,k=3", "axis=1,k=7,smallest=true", "axis=0", "axis=2,k=2,smallest=true", "axis=2,k=0"]
        {
            rows.push((format!("%x: {ty}[2,7,3]"), format!("%v, %i = top_k %x {{{attributes}}}\n{both}")));
        }
    }
    for ty in ["f32", "i32", "i64", "u8", "i8"] {
        for attributes in ["axis=1,k=30", "axis=1,k=200,smallest=true"] {
            rows.push((format!("%x: {ty}[3,200]"), format!("%v, %i = top_k %x {{{attributes}}}\n{both}")));
        }
    }
    rows.push(("%x: f32[5]".into(), "%v, %y = top_k %x {k=5}".into()));
    rows.push(("%x: f32[5]".into(), "%y, %i = top_k %x {k=2}".into()));
    check(&rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
    check_channel_last(&[&format!("%v, %i = top_k %c {{axis=1,k=3}}\n{both}")]);
    let x = [f32::NAN, 1.0, -0.0, 0.0, f32::INFINITY, f32::NEG_INFINITY, 1.0, f32::NAN];
    for order in ["k=8", "k=8,smallest=true"] {
        let x = vec![Literal::from_f32([8], &x)];
        let body = format!("%v, %i = top_k %x {{{order}}}\n{both}");
        assert_eq!(difference("%x: f32[8]", &body, Some(x), 0.0), Ok(()));
    }
}

#[test]
fn what_data_chooses_is_counted() {
    let both = "return %i as \"i\", %n as \"n\"";
    let mut rows: Vec<(String, String)> = Vec::new();
    for count in [1, 3, 64, 1000] {
        let mask = "%z = constant f32[] [0]\n%m = greater %x, %z";
        rows.push((format!("%x: f32[{count}]"), format!("{mask}\n%i, %n = compact %m\n{both}")));
    }
    for (images, classes, boxes, k) in [(1, 1, 1, 1), (1, 3, 50, 50), (2, 2, 33, 7), (1, 80, 16, 4)] {
        // Corners around the middles that the operand has, a fifth to two fifths away from them.
        let text = format!(
            "%third = constant f32[] [0.3]\n%tenth = constant f32[] [0.1]\n%t = constant f32[] [0.4]\n\
             %by = mul %x, %tenth\n%half = add %by, %third\n%low = sub %x, %half\n%high = add %x, %half\n\
             %b = concat %low, %high {{axis=1}}\n%i, %n = non_max_suppression %b, %s, %t {{k={k}}}\n{both}"
        );
        rows.push((format!("%x: f32[{images},2,{boxes}], %s: f32[{images},{classes},{boxes}]"), text));
    }
    check(&rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
}

#[test]
fn windows_say_where_their_maximum_is() {
    let both = "return %v as \"v\", %i as \"i\"";
    let mut rows: Vec<(String, String)> = Vec::new();
    for ty in ["f32", "i8", "u8", "i64"] {
        for attributes in [
            "kernel=[2,2]",
            "kernel=[3,2],strides=[2,1],pads=[1,1,1,0]",
            "kernel=[2,3],dilations=[2,1],pads=[1,2,0,1],column_major=true",
            "kernel=[2,2],strides=[2,2],ceil_mode=true,column_major=true",
        ] {
            rows.push((format!("%x: {ty}[2,3,5,6]"), format!("%v, %i = max_pool %x {{{attributes}}}\n{both}")));
        }
    }
    let line = "{kernel=[3],strides=[2],pads=[1,1],dilations=[1]}";
    rows.push(("%x: f32[1,2,7]".into(), format!("%v, %i = max_pool %x {line}\n{both}")));
    rows.push(("%x: f32[1,2,7]".into(), format!("%v, %y = max_pool %x {line}")));
    let cube = "{kernel=[2,2,2],strides=[1,2,1],pads=[0,1,0,1,0,1],dilations=[1,1,1],column_major=true}";
    rows.push(("%x: f32[1,2,3,4,3]".into(), format!("%v, %i = max_pool %x {cube}\n{both}")));
    check(&rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
    check_channel_last(&[&format!("%v, %i = max_pool %c {{kernel=[2,2],pads=[1,0,0,1]}}\n{both}")]);
    let least = f32::NEG_INFINITY;
    let x = vec![Literal::from_f32([1, 1, 6], &[least, least, f32::NAN, f32::NAN, 2.0, 2.0])];
    let body = format!("%v, %i = max_pool %x {{kernel=[2],strides=[1],pads=[1,0],dilations=[1]}}\n{both}");
    assert_eq!(difference("%x: f32[1,1,6]", &body, Some(x), 0.0), Ok(()));
}

#[test]
fn channels_have_statistics() {
    let both = "return %m as \"m\", %v as \"v\"";
    let body = format!("%m, %v = batch_statistics %x\n{both}");
    check(&[
        ("%x: f32[2,3,5,4]", &body),
        ("%x: f32[3,2,7]", &body),
        ("%x: f32[5,4]", &body),
        ("%x: f32[2,3,5,4]", "%m, %y = batch_statistics %x"),
        ("%x: f32[2,3,5,4]", "%y, %v = batch_statistics %x"),
    ]);
    check_channel_last(&[&format!("%m, %v = batch_statistics %c\n{both}")]);
}

#[test]
fn data_moves_whatever_its_type() {
    let mut rows: Vec<(String, String)> = Vec::new();
    for ty in ["f32", "f64", "f16", "bf16", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "bool"] {
        let x = format!("%x: {ty}[2,3,5]");
        for node in [
            "transpose %x {perm=[2,0,1]}",
            "concat %x, %x {axis=1}",
            "slice %x {starts=[0,2,4],steps=[1,-1,-2],sizes=[2,2,3]}",
            "tile %x {repeats=[2,1,3]}",
            "reshape %x {shape=[5,6]}",
            "pad %x {pads=[0,1,2,0,1,3],mode=edge}",
            "pad %x {pads=[0,1,-1,2,-1,2],value=1}",
        ] {
            rows.push((x.clone(), format!("%y = {node}")));
        }
        rows.push((format!("%x: {ty}[3,1]"), "%y = expand %x {shape=[2,3,4]}".into()));
        for index in ["i32", "i64"] {
            rows.push((format!("{x}, %i: {index}[2,2]"), "%y = gather %x, %i {axis=1}".into()));
            rows.push((format!("{x}, %i: {index}[]"), "%y = gather %x, %i {axis=2}".into()));
            rows.push((format!("{x}, %i: {index}[2,4,5]"), "%y = gather_elements %x, %i {axis=1}".into()));
        }
    }
    for ty in ["f32", "i8", "u8", "i32", "i64", "bool"] {
        let x = format!("%x: {ty}[2,3,5]");
        rows.push((x.clone(), "%y = pad %x {pads=[0,1,2,0,1,3],mode=wrap}".into()));
        for to in ["f32", "i8", "u8", "i16", "i32", "i64", "bool"] {
            rows.push((x.clone(), format!("%y = cast %x {{to={to}}}")));
        }
    }
    check(&rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
}

#[test]
fn reductions() {
    let mut rows: Vec<(String, String)> = Vec::new();
    for kind in ["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum_exp"] {
        for axes in ["[]", "[0]", "[2]", "[0,2]", "[1,2]", "[0,1,2]"] {
            for keepdims in [true, false] {
                let node = format!("%y = reduce %x {{kind={kind},axes={axes},keepdims={keepdims}}}");
                rows.push(("%x: f32[3,5,7]".into(), node.clone()));
                if !matches!(kind, "l2" | "log_sum_exp") {
                    rows.push(("%x: i32[3,5,7]".into(), node));
                }
            }
        }
        rows.push(("%x: f32[2,0]".into(), format!("%y = reduce %x {{kind={kind},axes=[1]}}")));
        rows.push(("%x: f32[0,2]".into(), format!("%y = reduce %x {{kind={kind},axes=[1]}}")));
    }
    rows.push(("%x: f32[3,300,40]".into(), "%a = abs %x\n%y = reduce %a {kind=log_sum,axes=[1]}".into()));
    for (min, last) in [(false, false), (false, true), (true, false), (true, true)] {
        for (ty, axis) in [("f32", 0), ("f32", 1), ("f32", 2), ("i8", 2), ("i64", 1)] {
            let node = format!("%y = arg_reduce %x {{min={min},axis={axis},select_last={last},keepdims=false}}");
            rows.push((format!("%x: {ty}[3,5,7]"), node));
        }
    }
    check(&rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
}

#[test]
fn convolutions() {
    let rows: Vec<(String, String)> = [
        ("[1,3,9,8]", "[17,3,3,3]", "strides=[2,2],pads=[1,1,1,1]"),
        ("[2,4,5,6]", "[8,4,1,1]", "strides=[1,1]"),
        ("[2,6,5,6]", "[6,1,3,3]", "pads=[1,1,1,1],group=6"),
        ("[1,6,7,7]", "[4,3,3,2]", "group=2,dilations=[2,1],pads=[2,0,2,1]"),
        ("[1,2,1,1]", "[3,2,3,3]", "pads=[1,1,1,1]"),
        ("[1,2,9,9]", "[5,2,2,2]", "strides=[3,4]"),
        ("[1,5,40,40]", "[40,5,3,3]", "pads=[1,1,1,1]"),
        ("[3,4,11]", "[5,4,3]", "strides=[2],pads=[1,0],dilations=[1]"),
        ("[1,2,4,5,6]", "[3,2,2,3,2]", "strides=[1,2,1],pads=[0,1,0,1,1,1],dilations=[1,1,2]"),
        ("[0,2,4,4]", "[3,2,1,1]", "strides=[1,1]"),
        ("[1,3,1,90]", "[4,3,1,20]", "pads=[0,9,0,10]"),
        ("[1,3,90,1]", "[4,3,21,1]", "pads=[10,0,10,0],strides=[2,1]"),
        ("[2,3,11,1]", "[5,3,3,1]", "pads=[1,0,1,0]"),
        ("[1,4,70]", "[6,2,33]", "strides=[1],pads=[40,3],group=2,dilations=[2]"),
        ("[2,9,40]", "[9,1,31]", "strides=[1],dilations=[1],pads=[15,15],group=9"),
        ("[2,9,40,1]", "[9,1,7,1]", "pads=[3,0,3,0],group=9"),
        ("[1,18,20,17]", "[18,1,13,15]", "pads=[6,7,6,7],strides=[2,1],group=18"),
    ]
    .into_iter()
    .flat_map(|(x, w, attributes)| {
        let filters = &w[1..w.find(',').unwrap_or(1)];
        let weights = format!("%w = constant f32{w} random(5)\n");
        let bias = format!("%b = constant f32[{filters}] random(6)\n");
        let plain = format!("{weights}%y = conv %x, %w {{{attributes}}}");
        let biased = format!("{weights}{bias}%y = conv %x, %w, %b {{{attributes},bias=true,activation=silu}}");
        let residual = format!(
            "{weights}{bias}%r = conv %x, %w {{{attributes}}}\n\
             %y = conv %x, %w, %b, %r {{{attributes},bias=true,residual=true,activation=relu,activation_first=true}}"
        );
        let dynamic = format!("{bias}%y = conv %x, %w, %b {{{attributes},bias=true,activation=relu}}");
        [plain, biased, residual]
            .map(|body| (format!("%x: f32{x}"), body))
            .into_iter()
            .chain([(format!("%x: f32{x}, %w: f32{w}"), dynamic)])
            .collect::<Vec<_>>()
    })
    .collect();
    check_within(1e-4, &rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
}

#[test]
fn wide_windows_have_kernels() {
    for (x, w, attributes, expected) in [
        ("[1,16,1,90]", "[8,16,1,20]", "pads=[0,9,0,10]", &["pad_1x16x1x109", "conv_n1"][..]),
        ("[1,16,1,90]", "[8,16,1,20]", "strides=[1,1]", &["conv_n1"]),
        ("[1,16,90,1]", "[8,16,3,1]", "pads=[1,0,1,0]", &["conv_n1"]),
        ("[1,16,90]", "[16,1,31]", "strides=[1],dilations=[1],pads=[15,15],group=16", &["pad_1x16x1x120", "depthwise"]),
        ("[1,16,9,40]", "[16,1,13,13]", "pads=[6,6,6,6],group=16", &["pad_1x16x21x52", "depthwise"]),
    ] {
        let body = format!("%w = constant f32{w} random(1)\n%y = conv %x, %w {{{attributes}}}");
        let mut names = harness::kernels(&format!("%x: f32{x}"), &body);
        names.retain(|name| !name.contains("copy"));
        let all = names.len() == expected.len() && names.iter().zip(expected).all(|(name, word)| name.contains(word));
        assert!(all, "{x} {w} {attributes}: {names:?}");
    }
}

/// Depthwise convolutions of parts of channels, whose copies are left out.
#[test]
fn channels_are_split_and_joined() {
    let body = |parts: [usize; 3], (extent, activation): (usize, &str)| {
        let (all, [a, b, c]) = (parts.iter().sum::<usize>(), parts);
        format!(
            "%m = constant f32[{all},{all},1,1] random(1)\n%e = conv %x, %m {{activation=relu}}\n\
             %u = constant f32[{a},1,3,3] random(2)\n%v = constant f32[{b},1,5,5] random(3)\n\
             %w = constant f32[{c},1,{extent},{extent}] random(4)\n\
             %p, %q, %r = split %e {{axis=1, sizes=[{a},{b},{c}]}}\n\
             %f = conv %p, %u {{group={a},pads=[1,1,1,1],strides=[2,2]{activation}}}\n\
             %g = conv %q, %v {{group={b},pads=[2,2,2,2],strides=[2,2]{activation}}}\n\
             %h = conv %r, %w {{group={c},pads=[{pad},{pad},{pad},{pad}],strides=[2,2]{activation}}}\n\
             %j = concat %f, %g, %h {{axis=1}}\n%n = constant f32[9,{all},1,1] random(5)\n%y = conv %j, %n",
            pad = extent / 2
        )
    };
    let bodies = [
        body([16, 16, 16], (7, "")),
        body([8, 10, 6], (3, ",activation=silu")),
        body([90, 3, 50], (9, ",activation=relu")),
        body([2, 33, 130], (11, "")),
    ];
    let header = |body: &String| {
        let all = body.split(['[', ',']).nth(1).unwrap_or_default();
        [format!("%x: f32[1,{all},9,14]"), format!("%x: f32[3,{all},8,7]")]
    };
    let rows: Vec<(String, &String)> =
        bodies.iter().flat_map(|body| header(body).map(|header| (header, body))).collect();
    check_within(1e-4, &rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
}

#[test]
fn windows() {
    check(&[
        ("%x: f32[2,3,7,8]", "%y = pool %x {kernel=[2,3],strides=[2,1],pads=[0,1,1,1]}"),
        ("%x: f32[2,3,7,8]", "%y = pool %x {kernel=[3,3],strides=[2,2],pads=[1,1,1,1],kind=average}"),
        (
            "%x: f32[2,3,7,8]",
            "%y = pool %x {kernel=[3,3],strides=[2,2],pads=[1,1,1,1],kind=average,count_include_pad=true}",
        ),
        ("%x: f32[1,1,7,7]", "%y = pool %x {kernel=[2,2],strides=[2,2],ceil_mode=true,kind=average}"),
        ("%x: f32[1,3,9]", "%y = pool %x {kernel=[3],strides=[4],pads=[0,0],dilations=[2]}"),
        ("%x: u8[1,3,9,9]", "%y = reduce %x {kind=max,axes=[1]}"),
        ("%x: i8[1,3,9,9]", "%y = reduce %x {kind=min,axes=[2]}"),
        ("%x: i32[5,30]", "%y = reduce %x {kind=max,axes=[0]}"),
        ("%x: u8[1,3,9,9]", "%y = pool %x {kernel=[3,3],pads=[1,1,1,1]}"),
        ("%x: i8[1,3,9,9]", "%y = pool %x {kernel=[3,3],pads=[1,1,1,1]}"),
        ("%x: f32[1,6,4,4]", "%y = lrn %x {size=5,alpha=0.5,beta=0.75,bias=2}"),
        ("%x: f32[2,3,5]", "%y = lrn %x {size=4,alpha=0.5,beta=0.6}"),
        ("%x: f32[1,2,3]", "%y = lrn %x {size=100,alpha=0.5}"),
    ]);
    check_channel_last(&[
        "%y = pool %c {kernel=[2,2],pads=[1,0,0,1]}",
        "%y = pool %c {kernel=[3,3],pads=[1,1,1,1],kind=average}",
    ]);
}

#[test]
fn matrix_products() {
    check_within(
        1e-4,
        &[
            ("%a: f32[5,7], %b: f32[7,19]", "%y = gemm %a, %b"),
            (
                "%a: f32[5,7]",
                "%b = constant f32[19,7] random(4)\n%c = constant f32[19] random(5)\n%y = gemm %a, %b, %c {trans_b=true,bias=true,activation=relu}",
            ),
            (
                "%a: f32[7,5], %b: f32[9,7], %c: f32[5,1]",
                "%y = gemm %a, %b, %c {trans_a=true,trans_b=true,bias=true,alpha=0.5,beta=2}",
            ),
            ("%a: f32[7,5], %b: f32[7,3]", "%y = gemm %a, %b {trans_a=true,alpha=0.25}"),
            ("%a: i32[3,4], %b: i32[4,2], %c: i32[2]", "%y = gemm %a, %b, %c {bias=true,alpha=2,beta=3}"),
            ("%a: f32[3,0], %b: f32[0,2]", "%y = gemm %a, %b"),
            ("%a: f32[1,300], %b: f32[300,70]", "%y = matmul %a, %b"),
            ("%a: f32[2,3,4,5], %b: f32[3,5,6]", "%y = matmul %a, %b"),
            ("%a: f32[4,5], %b: f32[2,5,3]", "%y = matmul %a, %b"),
            ("%a: f32[5], %b: f32[2,5,3]", "%y = matmul %a, %b"),
            ("%a: f32[2,4,5], %b: f32[5]", "%y = matmul %a, %b"),
            ("%a: f32[5], %b: f32[5]", "%y = matmul %a, %b"),
            ("%a: i64[2,3], %b: i64[3,4]", "%y = matmul %a, %b"),
            ("%x: f32[3,5,7]", "%y = softmax %x {axis=0}"),
            ("%x: f32[3,5,7]", "%y = softmax %x {axis=1,log=true}"),
            ("%x: f32[3,1]", "%y = softmax %x"),
            ("%x: f32[3,1000]", "%y = softmax %x {log=true}"),
        ],
    );
}

#[test]
fn normalisation_and_gates() {
    let parameters = "%s = constant f32[3] random(1)\n%b = constant f32[3] random(2)\n%m = constant f32[3] random(3)\n\
                      %q = constant f32[3] random(4)\n%v = mul %q, %q\n%y = batch_norm %x, %s, %b, %m, %v {epsilon=0.1}";
    let gate = "%w1 = constant f32[2,5,1,1] random(1)\n%b1 = constant f32[2] random(2)\n\
                %w2 = constant f32[5,2,1,1] random(3)\n%b2 = constant f32[5] random(4)\n";
    let rows_first = format!("{gate}%y = squeeze_excite %x, %w1, %b1, %w2, %b2");
    let channels_last = format!(
        "{gate}{CHANNEL_LAST}%y = squeeze_excite %c, %w1, %b1, %w2, %b2 {{activation=relu,gate=hard_sigmoid(0.2,0.5)}}"
    );
    check(&[
        ("%x: f32[2,3,4,5]", parameters),
        ("%x: f32[2,3]", parameters),
        ("%x: f32[2,5,3,3]", &rows_first),
        ("%x: f32[2,3,3,4]", &channels_last),
    ]);
}

#[test]
fn convolutions_of_integers() {
    check(&[
        ("%x: i32[2,4,5,6], %w: i32[6,4,3,3]", "%y = conv %x, %w {pads=[1,1,1,1]}"),
        ("%x: i32[1,1,5,6]", "%w = constant i32[2,1,1,3] [1, 2, -3, 65537, 5, 2147483647]\n%y = conv %x, %w"),
        (
            "%x: i32[1,4,7,9], %w: i32[6,2,3,2], %b: i32[6]",
            "%y = conv %x, %w, %b {strides=[2,1],pads=[0,1,2,1],dilations=[1,2],group=2,bias=true}",
        ),
        ("%x: i32[1,40,8], %w: i32[40,1,5]", "%y = conv %x, %w {strides=[1],pads=[2,2],dilations=[1],group=40}"),
        ("%x: i64[1,3,4,4], %w: i64[5,3,1,1], %r: i64[1,5,4,4]", "%c = conv %x, %w\n%y = add %c, %r"),
        ("%x: i32[1,300,4,4], %w: i32[8,300,1,1]", "%c = conv %x, %w\n%y = abs %c"),
    ]);
}

/// A constant of integers up to `most`.
fn integers(dtype: &str, shape: &[usize], most: f32) -> String {
    let values = random_values(shape.len() as u64, shape.iter().product());
    let values: Vec<String> = values.iter().map(|v| ((v * most) as i64).to_string()).collect();
    let shape: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("constant {dtype}[{}] [{}]", shape.join(","), values.join(", "))
}

/// Sums of `i32`: pairs of channels, one channel alone, weights that are computed, more axes than the kernels have, what follows.
#[test]
fn sums_of_16_bit_integers() {
    // Elements over all of the 16 bits.
    let wide = "%k = constant i16[] [7001]\n%v = mul %x, %k\n";
    let weights = |shape: &[usize]| integers("i16", shape, 32_768.0);
    let bias = |count: usize| integers("i32", &[count], 2e9);
    let conv = |w: &[usize], attributes: &str| {
        format!("%w = {}\n%b = {}\n%y = conv %v, %w, %b {{bias=true,{attributes}}}", weights(w), bias(w[0]))
    };
    let matmul = |w: &[usize]| format!("%w = {}\n%y = matmul %v, %w", weights(w));
    let rows = [
        ("%x: i16[2,4,5,6]", conv(&[6, 4, 3, 3], "pads=[1,1,1,1]")),
        ("%x: i16[1,7,9,11]", conv(&[40, 7, 1, 1], "pads=[0,0,0,0]")),
        ("%x: i16[1,3,9,8]", conv(&[8, 3, 3, 3], "strides=[2,2],pads=[0,0,1,1]")),
        ("%x: i16[1,6,7,9]", conv(&[9, 2, 3, 2], "strides=[2,1],pads=[0,1,2,1],dilations=[1,2],group=3")),
        ("%x: i16[1,40,8,7]", conv(&[40, 1, 3, 3], "pads=[1,1,1,1],group=40")),
        ("%x: i16[1,4,8,7]", conv(&[8, 1, 3, 3], "pads=[1,1,1,1],group=4")),
        ("%x: i16[1,5,4,4], %w: i16[3,5,1,1], %r: i32[1,3,4,4]", "%y = conv %v, %w, %r {residual=true}".into()),
        ("%x: i16[1,3,4,4,4]", conv(&[2, 3, 2, 2, 2], "strides=[1,1,1],pads=[0,0,0,0,0,0],dilations=[1,1,1]")),
        ("%x: i16[1,3,9]", conv(&[5, 3, 2], "strides=[2],pads=[1,0],dilations=[1]")),
        ("%x: i16[1,0,4,4]", "%w = constant i16[5,0,1,1] []\n%y = conv %v, %w".into()),
        ("%x: i16[2,3,33]", matmul(&[33, 20])),
        ("%x: i16[1,64]", matmul(&[64, 5])),
        ("%x: i16[7]", matmul(&[7])),
        ("%x: i16[3,0]", "%w = constant i16[0,5] []\n%y = matmul %v, %w".into()),
        ("%x: i16[2,3,4], %w: i16[2,4,5]", "%y = matmul %v, %w".into()),
        ("%x: i16[3,4], %w: i16[4,5]", "%y = matmul %v, %w".into()),
    ];
    let rows = rows.map(|(header, body)| (header, format!("{wide}{body}")));
    check_within(0.0, &rows.iter().map(|(header, body)| (*header, body.as_str())).collect::<Vec<_>>());
}

#[test]
fn blocks_of_large_kernels() {
    let weights = |kernel: usize| {
        let shapes = [
            ("we", "12,6,1,1".to_string()),
            ("be", "12".into()),
            ("wd", format!("12,1,{kernel},{kernel}")),
            ("wf", format!("12,6,{kernel},{kernel}")),
            ("bd", "12".into()),
            ("w1", "3,12,1,1".into()),
            ("b1", "3".into()),
            ("w2", "12,3,1,1".into()),
            ("b2", "12".into()),
            ("wp", "6,12,1,1".into()),
            ("bp", "6".into()),
        ];
        let line =
            |(i, (name, shape)): (usize, &(&str, String))| format!("%{name} = constant f32[{shape}] random({i})\n");
        shapes.iter().enumerate().map(line).collect::<String>()
    };
    let mut rows = Vec::new();
    for kernel in [15, 17, 31] {
        let pad = kernel / 2;
        let pads = format!("activation=silu,pads=[{pad},{pad},{pad},{pad}]");
        for node in [
            format!(
                "%y = mbconv %x, %we, %be, %wd, %bd, %w1, %b1, %w2, %b2, %wp, %bp {{expand=true,expand_activation=silu,{pads},se=[silu, sigmoid],residual=true}}"
            ),
            format!(
                "%e = conv %x, %we, %be {{bias=true}}\n%y = mbconv %e, %wd, %bd, %wp, %bp {{{pads},strides=[2,2]}}"
            ),
            format!("%y = mbconv %x, %wf, %bd, %wp, %bp {{fused=true,{pads},residual=true}}"),
        ] {
            rows.push(format!("{}{node}", weights(kernel)));
        }
    }
    check_within(1e-4, &rows.iter().map(|body| ("%x: f32[1,6,9,10]", body.as_str())).collect::<Vec<_>>());
}

#[test]
fn transposed_convolutions() {
    let rows = [
        ("[1,3,4,5]", "[3,7,3,3]", "strides=[2,2],pads=[1,1,1,1],output_padding=[1,1]"),
        ("[2,4,3,3]", "[4,2,2,3]", "strides=[3,1],group=2,dilations=[2,1]"),
        ("[1,6,3,3]", "[6,1,4,4]", "strides=[2,2],pads=[1,1,1,1],group=6"),
        ("[1,3,9,8]", "[3,40,3,3]", "strides=[2,2],pads=[1,1,0,0],output_padding=[0,1]"),
        ("[2,5,7,9]", "[5,17,5,3]", "strides=[2,1],pads=[2,0,1,2]"),
        ("[1,4,3,2]", "[4,6,2,3]", "strides=[3,2],pads=[1,2,0,0],output_padding=[2,1]"),
        ("[1,4,6,5]", "[4,5,1,1]", "strides=[2,2],output_padding=[1,0]"),
        ("[1,8,6,7]", "[8,24,3,3]", "strides=[1,1],pads=[1,1,1,1]"),
        ("[1,4,6,7]", "[4,3,3,3]", "strides=[1,1],dilations=[2,3],pads=[2,3,2,3],group=2"),
        ("[1,3,6]", "[3,5,5]", "strides=[2],pads=[1,2],dilations=[1],output_padding=[0]"),
        ("[2,20,7,7]", "[20,1,5,5]", "strides=[2,2],pads=[2,2,2,2],output_padding=[1,1],group=20"),
        ("[1,2,3,3]", "[2,3,1,1]", "strides=[400,400000],pads=[200,399990,600,400000]"),
        ("[1,2,3,3]", "[2,1,2,2]", "strides=[5,5],group=2"),
        ("[1,2,5]", "[2,3,3]", "strides=[2],pads=[-1,-2],dilations=[1],output_padding=[0]"),
        ("[1,2,2,3,2]", "[2,5,2,2,2]", "strides=[2,1,2],pads=[0,0,0,1,0,0],dilations=[1,2,1],output_padding=[0,0,0]"),
    ];
    let rows: Vec<(String, String)> = rows
        .iter()
        .flat_map(|(x, w, attributes)| {
            let weights = format!("%w = constant f32{w} random(5)\n");
            [(format!("%x: f32{x}"), format!("{weights}%y = conv_transpose %x, %w {{{attributes}}}"))]
        })
        .chain([(
            "%x: f32[1,2,3,3], %w: f32[2,3,2,2], %b: f32[3]".to_string(),
            "%y = conv_transpose %x, %w, %b {strides=[2,2],bias=true}".to_string(),
        )])
        .collect();
    check_within(1e-5, &rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
}

#[test]
fn resampling() {
    let mut rows: Vec<(String, String)> = Vec::new();
    let shapes = [("[7,9]", "[1.75,1.8]"), ("[2,3]", "[0.5,0.6]"), ("[4,9]", "[1,1.8]"), ("[1,1]", "[0.25,0.2]")];
    for mode in ["nearest", "linear", "cubic"] {
        for rule in ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"] {
            for (shape, scales) in shapes {
                let (shape, scales) = (shape.trim_matches(['[', ']']), scales.trim_matches(['[', ']']));
                let attributes = format!("mode={mode},coordinates={rule},shape=[1,3,{shape}],scales=[1,1,{scales}]");
                for ty in ["f32", "u8"] {
                    rows.push((format!("%x: {ty}[1,3,4,5]"), format!("%y = resize %x {{{attributes}}}")));
                }
            }
        }
    }
    for nearest in ["round_prefer_ceil", "floor", "ceil"] {
        for ty in ["f32", "i64", "f16"] {
            let node = format!("%y = resize %x {{nearest={nearest},shape=[2,7,3],scales=[1,1.75,0.6]}}");
            rows.push((format!("%x: {ty}[2,4,5]"), node));
        }
    }
    for mode in ["linear", "cubic"] {
        for extra in ["antialias=true", "exclude_outside=true"] {
            let node = format!("%y = resize %x {{mode={mode},{extra},shape=[2,3,3,2],scales=[1,1,0.75,0.4]}}");
            rows.push(("%x: f32[2,3,4,5]".into(), node));
        }
    }
    for mode in ["nearest", "linear"] {
        let roi = "roi=[0,0,0.1,-0.5,1,1,0.8,1.2],extrapolation=7,coordinates=tf_crop_and_resize";
        for ty in ["f32", "u8"] {
            let node = format!("%y = resize %x {{mode={mode},{roi},shape=[1,2,5,6],scales=[1,1,1.25,1.2]}}");
            rows.push((format!("%x: {ty}[1,2,4,5]"), node));
        }
    }
    check(&rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
    check_channel_last(&[
        "%y = resize %c {mode=linear,shape=[2,5,6,4],scales=[1,1,2,1]}",
        "%y = resize %c {shape=[2,5,6,8],scales=[1,1,2,2]}",
    ]);
}

#[test]
fn chains_of_element_wise_operators_are_one_kernel() {
    let quantise = "%s = constant f32[] [0.03]\n%z = constant f32[] [7]\n%a = div %x, %s\n%b = round %a\n%c = add %b, %z\n\
                    %d = clip %c {p=[0,255]}\n%e = cast %d {to=u8}\n%f = cast %e {to=f32}\n%g = sub %f, %z\n%y = mul %g, %s";
    let wrapped = "%a = add %x, %x\n%b = mul %a, %a\n%y = cast %b {to=i32}";
    let spread = "%b = constant f32[3,1] random(3)\n%t = transpose %x {perm=[1,0,2]}\n%s = add %t, %b\n%y = relu %s";
    let reduced = "%a = abs %x\n%y = reduce %a {kind=max,axes=[0,2]}";
    let rows = [
        ("%x: f32[2,3,70]", quantise, 1),
        ("%x: u8[2,3,7]", wrapped, 1),
        ("%x: f32[3,2,5]", spread, 1),
        ("%x: f32[4,3,5]", reduced, 1),
        ("%x: f32[2,3]", "%s = sigmoid %x\n%y = mul %x, %s", 1),
        ("%x: f32[2,3]", "%a = exp %x\n%b = neg %a\n%c = sqrt %a\n%y = mul %b, %c", 1),
        // A value of two readers, and one that is read again and again, keep their memory.
        ("%x: f32[2,3]", "%a = exp %x\n%m = reduce %a {kind=max,axes=[1]}\n%y = sub %a, %m", 3),
        ("%x: f32[3], %b: f32[4,3]", "%a = exp %x\n%y = mul %b, %a", 2),
    ];
    check(&rows.map(|(header, body, _)| (header, body)));
    for (header, body, expected) in rows {
        assert_eq!(steps(header, body), expected, "{body}");
    }
}
