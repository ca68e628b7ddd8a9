//! Operators of backward graphs.

use super::harness::{kernels, vanishes};
use super::{CHANNEL_LAST, check, check_channel_last, check_within};

#[test]
fn weights_of_convolutions_have_gradients() {
    check_within(
        1e-5,
        &[
            ("%x: f32[2,3,5,4], %g: f32[2,4,5,4]", "%y = conv_weight_gradient %x, %g"),
            ("%x: f32[2,3,5,4], %g: f32[2,4,5,4]", "%y = conv_weight_gradient %x, %g {kernel=[3,3],pads=[1,1,1,1]}"),
            (
                "%x: f32[2,4,7,8], %g: f32[2,4,3,4]",
                "%y = conv_weight_gradient %x, %g {kernel=[3,3],strides=[2,2],pads=[0,1,0,1],group=4}",
            ),
            (
                "%x: f32[1,4,8,7], %g: f32[1,6,4,4], %s: f32[6,2,3,2]",
                "%y = conv_weight_gradient %x, %g, %s {kernel=[3,2],strides=[1,2],pads=[0,1,0,1],dilations=[2,1],group=2,accumulate=true}",
            ),
            (
                "%x: f32[2,4,7,8], %g: f32[2,4,3,4], %e: f32[2,4,1,1]",
                "%y = conv_weight_gradient %x, %g, %e {kernel=[3,3],strides=[2,2],pads=[0,1,0,1],group=4,gate=true}",
            ),
            (
                "%x: f32[2,3,9], %g: f32[2,4,7]",
                "%y = conv_weight_gradient %x, %g {kernel=[3],strides=[1],pads=[0,0],dilations=[1]}",
            ),
        ],
    );
    let body = format!("{CHANNEL_LAST}%y = conv_weight_gradient %c, %c {{kernel=[3,3],pads=[1,1,1,1]}}");
    check_within(1e-5, &[("%x: f32[2,3,3,4]", &body)]);
}

#[test]
fn functions_and_maxima_have_gradients() {
    let mut rows: Vec<(String, String)> = Vec::new();
    for function in [
        "relu",
        "clip(-0.5, 0.5)",
        "sigmoid",
        "hard_sigmoid(0.2, 0.5)",
        "hard_swish",
        "silu",
        "swish(1.7)",
        "tanh",
        "elu(0.7)",
        "leaky_relu(0.1)",
        "selu(1.6, 1.05)",
        "celu(1.3)",
        "thresholded_relu(0.25)",
        "gelu",
        "gelu_tanh",
        "mish",
        "softplus",
        "softsign",
        "abs",
        "exp",
        "erf",
        "sin",
        "cos",
        "sqrt",
        "log",
        "reciprocal",
    ] {
        let argument =
            if matches!(function, "sqrt" | "log" | "reciprocal") { "%z = exp %x\n" } else { "%z = add %x, %x\n" };
        let nodes = format!("{argument}%y = unary_gradient %g, %z {{function={function}}}");
        rows.push(("%x: f32[3,37], %g: f32[3,37]".into(), nodes));
    }
    for (windows, out) in [
        ("kernel=[2,2],strides=[2,2]", "2,3"),
        ("kernel=[3,3],strides=[2,2],pads=[1,1,1,1]", "3,3"),
        ("kernel=[2,3],dilations=[2,1],pads=[1,2,0,1]", "4,7"),
        ("kernel=[2,2],strides=[2,2],ceil_mode=true", "3,3"),
    ] {
        let nodes =
            format!("%v, %i = max_pool %x {{{windows}}}\n%y = max_pool_gradient %g, %i {{extents=[5,6],{windows}}}");
        rows.push((format!("%x: f32[2,3,5,6], %g: f32[2,3,{out}]"), nodes));
    }
    check(&rows.iter().map(|(header, body)| (header.as_str(), body.as_str())).collect::<Vec<_>>());
    let windows = "kernel=[3,3],strides=[2,2],pads=[1,1,1,1]";
    check_channel_last(&[&format!(
        "%v, %i = max_pool %c {{{windows}}}\n%y = max_pool_gradient %v, %i {{extents=[3,4],{windows}}}"
    )]);
}

/// Gradients of dense and depthwise weights have kernels, with an earlier sum too; the images of networks are read as they come.
#[test]
fn gradients_of_weights_have_kernels() {
    let rows = [
        ("%x: f32[2,40,30,20], %g: f32[2,17,30,20], %s: f32[17,40,1,1]", "%x, %g, %s {accumulate=true}"),
        (
            "%x: f32[2,40,7,6], %g: f32[2,17,7,6], %e: f32[2,40,1,1], %s: f32[17,40,1,1]",
            "%x, %g, %e, %s {gate=true,accumulate=true}",
        ),
        ("%x: f32[1,3,31,30], %g: f32[1,32,16,15]", "%x, %g {kernel=[3,3],strides=[2,2],pads=[1,0,1,1]}"),
        (
            "%x: f32[2,7,9,8], %g: f32[2,20,9,8], %s: f32[20,7,3,3]",
            "%x, %g, %s {kernel=[3,3],pads=[1,1,1,1],accumulate=true}",
        ),
        ("%x: f32[2,19,40,31], %g: f32[2,19,20,16]", "%x, %g {kernel=[3,3],strides=[2,2],pads=[0,1,1,1],group=19}"),
        (
            "%x: f32[1,24,7,7], %g: f32[1,24,7,7], %s: f32[24,1,5,5]",
            "%x, %g, %s {kernel=[5,5],pads=[2,2,2,2],group=24,accumulate=true}",
        ),
    ]
    .map(|(header, call)| (header, format!("%y = conv_weight_gradient {call}")));
    check_within(2e-4, &rows.each_ref().map(|(header, body)| (*header, body.as_str())));
    for (header, body) in rows {
        let names = kernels(header, &body);
        assert_eq!(names.iter().filter(|name| name.contains("weight_gradient_n")).count(), 1, "{names:?}");
    }
}

/// Shapes of convolutions that have kernels of their own: operands with types, and attributes.
const CONVOLUTIONS: &[(&str, &str)] = &[
    ("%x: f32[2,19,6,7], %w: f32[21,19,1,1], %b: f32[21]", "bias=true"),
    ("%x: f32[1,3,31,30], %w: f32[20,3,3,3], %b: f32[20]", "bias=true,strides=[2,2],pads=[1,0,1,1]"),
    ("%x: f32[2,6,9,8], %w: f32[10,6,3,3], %b: f32[10]", "bias=true,pads=[1,1,1,1]"),
    ("%x: f32[2,19,20,31], %w: f32[19,1,3,3], %b: f32[19]", "bias=true,strides=[2,2],pads=[0,1,1,1],group=19"),
    ("%x: f32[1,40,7,7], %w: f32[40,1,5,5], %b: f32[40]", "bias=true,pads=[2,2,2,2],group=40"),
];

#[test]
fn convolutions_give_slopes() {
    let functions = ["silu", "swish(1.7)", "sigmoid", "tanh"];
    let rows: Vec<(&str, String)> = CONVOLUTIONS
        .iter()
        .chain(&[("%x: f32[2,24,1,1], %w: f32[9,24,1,1], %b: f32[9]", "bias=true")])
        .flat_map(|(header, attributes)| functions.map(|function| (*header, *attributes, function)))
        .map(|(header, attributes, function)| {
            let conv = format!("conv_with_slope %x, %w, %b {{activation={function},{attributes}}}");
            (header, format!("%y, %s = {conv}\nreturn %y as \"y\", %s as \"s\""))
        })
        .collect();
    check_within(1e-5, &rows.iter().map(|(header, body)| (*header, body.as_str())).collect::<Vec<_>>());
    for (header, body) in &rows[..CONVOLUTIONS.len() * functions.len()] {
        let names = kernels(header, body);
        assert!(names.iter().any(|name| name.contains("_slope_")), "{names:?}");
    }
}

#[test]
fn data_gradients_end_in_what_passes_them_on() {
    let maps = "%r: f32[1,40,7,7], %f: f32[1,40,7,7], %at: f32[1,40,7,7]";
    let header = format!("%g: f32[1,40,7,7], %w: f32[40,1,5,5], {maps}");
    let (some, all) = ("pads=[2,2,2,2],group=40", "residual=true,factor=true,function=clip(-0.5, 0.5)");
    check_within(
        1e-5,
        &[
            (&header, &format!("%y = conv_data_gradient %g, %w, %r, %f, %at {{{some},{all}}}")),
            (&header, &format!("%y = conv_data_gradient %g, %w, %f {{{some},factor=true}}")),
            (&header, &format!("%y = conv_data_gradient %g, %w, %at {{{some},function=relu}}")),
            (&header, &format!("%y = conv_data_gradient %g, %w, %at {{{some},function=silu}}")),
        ],
    );
}

/// What follows a convolution in one kernel has the bits of its parts.
#[test]
fn slopes_and_gradients_have_the_bits_of_their_parts() {
    let mut rows = Vec::new();
    for (header, attributes) in CONVOLUTIONS {
        rows.push((
            header.to_string(),
            format!(
                "%y, %s = conv_with_slope %x, %w, %b {{activation=silu,{attributes}}}
                 %z = conv %x, %w, %b {{{attributes}}}
                 %v, %t = unary_with_slope %z {{function=silu}}
                 %a = sub %y, %v
                 %b1 = sub %s, %t
                 return %a as \"a\", %b1 as \"b\""
            ),
        ));
    }
    for (header, attributes, like) in [
        ("%g: f32[2,21,6,7], %w: f32[21,19,1,1]", "strides=[1,1]", "2,19,6,7"),
        ("%g: f32[2,19,10,16], %w: f32[19,1,3,3]", "strides=[2,2],pads=[0,1,1,1],group=19", "2,19,20,31"),
        ("%g: f32[1,40,7,7], %w: f32[40,1,5,5]", "pads=[2,2,2,2],group=40", "1,40,7,7"),
        ("%g: f32[1,24,6,5], %w: f32[24,8,3,3]", "strides=[2,2],pads=[1,1,1,1],output_padding=[1,0]", "1,8,12,9"),
        ("%g: f32[1,24,1,1], %w: f32[24,8,1,1]", "strides=[1,1]", "1,8,1,1"),
    ] {
        let maps = ["r", "f", "at"].map(|name| format!(", %{name}: f32[{like}]")).concat();
        rows.push((
            format!("{header}{maps}"),
            format!(
                "%y = conv_data_gradient %g, %w, %r, %f, %at
                   {{{attributes},residual=true,factor=true,function=clip(-0.5, 0.5)}}
                 %c = conv_transpose %g, %w {{{attributes}}}
                 %sum = add %c, %r
                 %product = mul %sum, %f
                 %z = unary_gradient %product, %at {{function=clip(-0.5, 0.5)}}
                 %a = sub %y, %z
                 return %a as \"a\""
            ),
        ));
    }
    for (header, body) in &rows {
        assert!(vanishes(header, body), "({header}) {body}");
    }
    let fused = rows.iter().filter(|(header, body)| {
        kernels(header, body).iter().any(|name| name.contains("_times_derivative_clip_") || name.contains("_slope_"))
    });
    assert_eq!(fused.count(), rows.len() - 1, "all but the product of one row");
}
