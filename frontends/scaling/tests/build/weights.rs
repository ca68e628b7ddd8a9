//! State dicts in every scheme, and what is said of those that do not fit.

use std::collections::BTreeMap;

use bytes::Bytes;
use fornax_ir::types::TensorType;
use fornax_scaling::architecture::{Architecture, Padding};
use fornax_scaling::build::{Outputs, build};
use fornax_scaling::parameters::parameters;
use fornax_scaling::random::Random;
use fornax_scaling::weights::{Bound, Classifier, Error, Fit, Hints, Outline, Scheme, StateDict, Weights};

use crate::support::{Family, scaled, shared};
use crate::{GOLDEN, options, small};

/// Tensors by name.
type Tensors = BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>;

/// A safetensors file of the given tensors.
fn file(tensors: &Tensors) -> Bytes {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor"))
    });
    safetensors::serialize(views, None).expect("a file").into()
}

/// The tensors of an architecture as `scheme` stores them.
fn stored(architecture: &Architecture, weights: &dyn Weights, scheme: Scheme) -> Tensors {
    let mut out = BTreeMap::new();
    for parameter in parameters(architecture) {
        let name = scheme.names(architecture, &parameter).first().cloned().expect("a name");
        let bytes = weights.constant(&parameter).expect("a constant").bytes().expect("elements").to_vec();
        out.insert(name, (safetensors::Dtype::F32, scheme.stored_shape(&parameter), bytes));
    }
    out
}

/// Row-major elements of four bytes, axes permuted.
fn transposed(bytes: &[u8], shape: &[usize], axes: &[usize]) -> Vec<u8> {
    let literal = fornax_ir::ops::literal::Literal::from_bytes(TensorType::f32(shape), bytes).expect("elements");
    let op = fornax_ir::ops::Transpose { perm: axes.to_vec() };
    fornax_ir::ops::Op::from(op).evaluate(&[&literal]).expect("a transpose")[0].to_bytes()
}

/// The V1 weights renamed by the reference's own table, row by row.
fn renamed(column: &str) -> Option<Bytes> {
    let table = std::fs::read(shared(&format!("{GOLDEN}/rename_v1.json"))?).expect("a table");
    let table: serde_json::Value = serde_json::from_slice(&table).expect("a table");
    let weights = std::fs::read(shared(&format!("{GOLDEN}/v1_weights_timm.safetensors"))?).expect("weights");
    let weights = safetensors::SafeTensors::deserialize(&weights).expect("weights");
    let mut out = BTreeMap::new();
    for row in table["rows"].as_array().expect("rows") {
        let Some(name) = row[column].as_str() else { continue };
        let timm = row["timm"].as_str().expect("a name");
        let Ok(tensor) = weights.tensor(timm) else { continue };
        let (mut shape, mut bytes) = (tensor.shape().to_vec(), tensor.data().to_vec());
        let axes: &[usize] = match shape.len() {
            4 if timm.contains("conv_dw") => &[2, 3, 0, 1],
            4 => &[2, 3, 1, 0],
            2 => &[1, 0],
            _ => &[],
        };
        if column == "keras" && !axes.is_empty() {
            bytes = transposed(&bytes, &shape, axes);
            shape = axes.iter().map(|axis| shape[*axis]).collect();
        }
        out.insert(name.to_string(), (tensor.dtype(), shape, bytes));
    }
    Some(file(&out))
}

#[test]
fn every_scheme_gives_the_same_constants() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let Some(timm) = renamed("timm") else { return };
    let bind = |bytes: Bytes, scheme: Scheme| -> Bound {
        let state = StateDict::from_bytes("renamed", bytes).expect("a state dict");
        assert_eq!(state.scheme().expect("a scheme"), scheme);
        state.bind(&architecture, scheme, Classifier::File).expect("a fit")
    };
    let expected = bind(timm, Scheme::Timm);
    for (column, scheme) in [
        ("torchvision", Scheme::Torchvision),
        ("efficientnet_pytorch", Scheme::EfficientNetPytorch),
        ("huggingface", Scheme::Transformers),
        ("keras", Scheme::Keras),
    ] {
        let found = bind(renamed(column).expect("weights"), scheme);
        for parameter in parameters(&architecture) {
            let constant = |weights: &Bound| weights.constant(&parameter).expect("a constant");
            assert_eq!(constant(&expected), constant(&found), "{column}: {}", parameter.name);
        }
    }
}

/// A mapped `f32` tensor reaches the graph as a slice of the file.
#[test]
fn elements_are_not_copied() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let bytes = file(&stored(&architecture, &Random { seed: 3 }, Scheme::Timm));
    let state = StateDict::from_bytes("w", bytes.clone()).expect("a state dict");
    let bound = state.bind(&architecture, Scheme::Timm, Classifier::File).expect("a fit");
    let range = bytes.as_ptr_range();
    for parameter in parameters(&architecture) {
        let constant = bound.constant(&parameter).expect("a constant");
        assert!(constant.source().is_some_and(|elements| range.contains(&elements.as_ptr())), "{}", parameter.name);
    }
}

#[test]
fn a_base_model_of_transformers_has_no_prefix_and_no_classifier() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let tensors = stored(&architecture, &Random { seed: 3 }, Scheme::Transformers).into_iter();
    let base = tensors.filter_map(|(name, tensor)| Some((name.strip_prefix("efficientnet.")?.to_string(), tensor)));
    let state = StateDict::from_bytes("base", file(&base.collect())).expect("a state dict");
    let scheme = state.scheme().expect("a scheme");
    assert_eq!(scheme, Scheme::Transformers);
    let outline = state.outline(&architecture, scheme);
    assert_eq!(outline.to_string(), "stem 8, head 320, 10 blocks, classes none");
    state.bind(&architecture, scheme, Classifier::Unused).expect("a fit");
    let error = state.bind(&architecture, scheme, Classifier::File).expect_err("faults").to_string();
    assert!(error.ends_with("missing: classifier.weight [10, 320]\n  missing: classifier.bias [10]"), "{error}");
}

/// Names that are proven for V1 hold for what V1 lacks as far as they are consistent.
#[test]
fn names_are_unique_and_found_again() {
    for (family, schemes) in [
        (
            Family::V1,
            &[Scheme::Timm, Scheme::Torchvision, Scheme::EfficientNetPytorch, Scheme::Transformers, Scheme::Keras][..],
        ),
        (Family::Lite, &[Scheme::Timm]),
        (Family::V2, &[Scheme::Timm, Scheme::Torchvision, Scheme::Keras]),
    ] {
        let architecture = small(family, Padding::Same, 1e-3);
        for scheme in schemes {
            let tensors = stored(&architecture, &Random { seed: 3 }, *scheme);
            assert_eq!(tensors.len(), parameters(&architecture).len(), "{}", scheme.name());
            let state = StateDict::from_bytes("stored", file(&tensors)).expect("a state dict");
            assert_eq!(state.scheme().expect("a scheme"), *scheme);
            state.bind(&architecture, *scheme, Classifier::File).expect("a fit");
            assert_eq!(state.outline(&architecture, *scheme), Outline::of(&architecture), "{}", scheme.name());
        }
    }
}

#[test]
fn wrappers_and_half_precision_are_taken_off() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let random = Random { seed: 3 };
    let halves = stored(&architecture, &random, Scheme::Timm).into_iter().map(|(name, (_, shape, bytes))| {
        let floats = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let bytes = floats.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect();
        (format!("module.model.{name}"), (safetensors::Dtype::BF16, shape, bytes))
    });
    let state = StateDict::from_bytes("halves", file(&halves.collect())).expect("a state dict");
    let bound = state.bind(&architecture, state.scheme().expect("a scheme"), Classifier::File).expect("a fit");
    let stem = &parameters(&architecture)[0];
    let constant = bound.constant(stem).expect("a constant");
    assert_eq!(constant.origins, ["module.model.conv_stem.weight"]);
    for (found, exact) in constant.to_f32().expect("floats").iter().zip(random.values(stem)) {
        assert_eq!(*found, half::bf16::from_f32(exact).to_f32());
    }
}

#[test]
fn tensors_that_do_not_fit_are_listed_together() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let mut tensors = stored(&architecture, &Random { seed: 3 }, Scheme::Timm);
    tensors.remove("blocks.1.0.conv_dw.weight");
    tensors.insert("blocks.9.0.conv_dw.weight".into(), (safetensors::Dtype::F32, vec![1], vec![0; 4]));
    tensors.insert("bn1.num_batches_tracked".into(), (safetensors::Dtype::I64, vec![], vec![0; 8]));
    tensors.insert("bn1.weight".into(), (safetensors::Dtype::F32, vec![4], vec![0; 16]));
    tensors.insert("bn1.bias".into(), (safetensors::Dtype::I64, vec![8], vec![0; 64]));
    tensors.insert("bn2.bias".into(), (safetensors::Dtype::F32, vec![320], f32::INFINITY.to_le_bytes().repeat(320)));
    tensors.insert("bn2.running_var".into(), (safetensors::Dtype::F32, vec![320], (-1f32).to_le_bytes().repeat(320)));
    let state = StateDict::from_bytes("w.safetensors", file(&tensors)).expect("a state dict");
    let error = state.bind(&architecture, Scheme::Timm, Classifier::File).expect_err("faults");
    let expected = [
        "w.safetensors: does not fit test_0.25_0.35 in timm naming:",
        "  network: expected stem 8, head 320, 10 blocks, classes 10; found stem 8, head 320, 11 blocks, classes 10",
        "  misshapen: bn1.weight: expected [8], found [4]",
        "  type: bn1.bias: expected F32, F16, BF16 or F64, found I64",
        "  missing: blocks.1.0.conv_dw.weight [48, 1, 3, 3]",
        "  values: bn2.bias: expected finite ones, found inf",
        "  variance: bn2.running_var: expected values from 0 on, found -1",
        "  unexpected: blocks.9.0.conv_dw.weight [1]",
    ];
    assert_eq!(error.to_string(), expected.join("\n"));
    let wrong = state.bind(&architecture, Scheme::Torchvision, Classifier::File).expect_err("faults").to_string();
    assert_eq!(wrong.lines().count(), 22);
    assert!(wrong.contains("found stem none, head none, 0 blocks"), "{wrong}");
    assert!(wrong.lines().last().is_some_and(|line| line.starts_with("  and ") && line.ends_with(" more")), "{wrong}");
}

#[test]
fn a_classifier_of_other_classes_is_made_anew() {
    let trained = small(Family::V1, Padding::Same, 1e-3);
    let tensors = stored(&trained, &Random { seed: 3 }, Scheme::Timm);
    let state = StateDict::from_bytes("w", file(&tensors)).expect("a state dict");
    let wanted = Architecture { classes: 4, ..trained };
    let error = state.bind(&wanted, Scheme::Timm, Classifier::File).expect_err("faults").to_string();
    assert!(
        error.contains("classifier.weight: expected [4, 320], found [10, 320] (the classifier can be made anew"),
        "{error}"
    );
    let bound = state.bind(&wanted, Scheme::Timm, Classifier::Seeded(9)).expect("a fit");
    let graph = build(&wanted, &options(1, 32, Outputs::Logits), &bound).expect("a graph");
    assert_eq!(*graph.ty(graph.outputs()[0].1), TensorType::f32([1, 4]));
    let unused = state.bind(&wanted, Scheme::Timm, Classifier::Unused).expect("a fit");
    build(&wanted, &options(1, 32, Outputs::Pooled), &unused).expect("a graph");
    assert!(build(&wanted, &options(1, 32, Outputs::Logits), &unused).is_err());
}

/// The tensors of timm's names, changed, as a state dict.
fn changed(architecture: &Architecture, change: impl FnOnce(&mut Tensors)) -> StateDict {
    let mut tensors = stored(architecture, &Random { seed: 3 }, Scheme::Timm);
    change(&mut tensors);
    StateDict::from_bytes("w.safetensors", file(&tensors)).expect("a state dict")
}

#[test]
fn classifiers_of_other_names_are_found() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    for (name, fits) in [("fc", true), ("classifier.1", true), ("head.fc", true), ("projector", false)] {
        let state = changed(&architecture, |tensors| {
            for suffix in ["weight", "bias"] {
                let tensor = tensors.remove(&format!("classifier.{suffix}")).expect("a tensor");
                tensors.insert(format!("{name}.{suffix}"), tensor);
            }
        });
        let bound = state.bind(&architecture, Scheme::Timm, Classifier::File);
        assert_eq!(bound.is_ok(), fits, "{name}");
        assert_eq!(state.outline(&architecture, Scheme::Timm).classes, fits.then_some(10), "{name}");
        // Other classes leave it aside, whatever it is called.
        let other = Architecture { classes: 4, ..architecture.clone() };
        assert_eq!(state.bind(&other, Scheme::Timm, Classifier::Seeded(1)).is_ok(), fits, "{name}");
    }
}

#[test]
fn counters_and_what_patterns_name_are_left_out() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let scalar = || (safetensors::Dtype::I64, vec![], vec![0; 8]);
    let state = changed(&architecture, |tensors| {
        *tensors = std::mem::take(tensors).into_iter().map(|(name, t)| (format!("module.{name}"), t)).collect();
        tensors.insert("n_averaged".into(), scalar());
        tensors.insert("module.num_updates".into(), scalar());
        tensors.insert("module.bn1.num_batches_tracked".into(), scalar());
    });
    state.bind(&architecture, Scheme::Timm, Classifier::File).expect("a fit");

    let state = changed(&architecture, |tensors| {
        *tensors = std::mem::take(tensors).into_iter().map(|(name, t)| (format!("model.{name}"), t)).collect();
        tensors.insert("criterion.weight".into(), (safetensors::Dtype::F32, vec![1], vec![0; 4]));
        tensors.insert("criterion.bias".into(), (safetensors::Dtype::F32, vec![1], vec![0; 4]));
    });
    assert!(state.scheme().is_err());
    let ignored = |patterns: &[&str]| {
        let patterns: Vec<String> = patterns.iter().map(|pattern| pattern.to_string()).collect();
        state.clone().without(&patterns)
    };
    for patterns in [&["criterion.*"][..], &["criterion.weight", "crit?rion.bias"], &["[!m]*"]] {
        let state = ignored(patterns).expect("a state dict");
        state.bind(&architecture, state.scheme().expect("a scheme"), Classifier::File).expect("a fit");
        assert!(state.notes()[0].ends_with("left out"), "{:?}", state.notes());
    }
    let error = |pattern| ignored(&[pattern]).expect_err("a fault").to_string();
    assert_eq!(
        error("optimizer.*"),
        "w.safetensors: pattern `optimizer.*`: expected one that matches a tensor, found criterion.bias, criterion.weight, \
         model.blocks.0.0.bn1.bias, …"
    );
    assert!(error("[").starts_with("w.safetensors: pattern `[`: expected a glob pattern, found "), "{}", error("["));
}

#[test]
fn variances_just_below_zero_are_zero() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let with = |least: f32| {
        changed(&architecture, |tensors| {
            let variance = tensors.get_mut("bn1.running_var").expect("a tensor");
            variance.2[..4].copy_from_slice(&least.to_le_bytes());
        })
        .bind(&architecture, Scheme::Timm, Classifier::File)
    };
    let parameter = parameters(&architecture).into_iter().find(|p| p.name == "bn1.running_var").expect("a parameter");
    for (least, note) in [(-1e-6, true), (-1e-20, true), (0.0, false)] {
        let bound = with(least).expect("a fit");
        let values = bound.constant(&parameter).expect("a constant").to_f32().expect("floats");
        assert_eq!((values[0], values[1]), (0.0, 1.0), "{least}");
        assert_eq!(bound.notes().iter().any(|n| n.ends_with("are taken as 0: bn1.running_var")), note, "{least}");
    }
    assert!(with(-1.1e-6).expect_err("a fault").to_string().contains("expected values from 0 on, found -0.0000011"));
}

#[test]
fn stems_are_adapted_to_other_channels_where_asked_for() {
    let colours = small(Family::V1, Padding::Same, 1e-3);
    for scheme in [Scheme::Timm, Scheme::Keras] {
        let tensors = stored(&colours, &Random { seed: 3 }, scheme);
        let state = StateDict::from_bytes("w", file(&tensors)).expect("a state dict");
        let own = state.bind(&colours, scheme, Classifier::File).expect("a fit");
        let own = own.constant(&parameters(&colours)[0]).expect("a constant").to_f32().expect("floats");
        for channels in [1, 4] {
            let wanted = Architecture { channels, ..colours.clone() };
            let refused = state.bind(&wanted, scheme, Classifier::File).expect_err("a fault").to_string();
            assert!(refused.ends_with("(--channels adapts it)"), "{refused}");
            let fit = Fit { classifier: Classifier::File, adapt_stem: true };
            let bound = state.bind(&wanted, scheme, fit).expect("a fit");
            assert_eq!(bound.notes().len(), 1);
            let stem = &parameters(&wanted)[0];
            let found = bound.constant(stem).expect("a constant").to_f32().expect("floats");
            assert_eq!(found.len(), stem.numel());
            // The second filter, at one place of its window.
            let place = |channels: usize, channel: usize| (channels + channel) * 9 + 4;
            let colour = |c: usize| own[place(3, c)];
            let expected = match channels {
                1 => vec![colour(0) + colour(1) + colour(2)],
                _ => [0, 1, 2, 0].map(|c| colour(c) * 0.75).to_vec(),
            };
            let found: Vec<f32> = (0..channels).map(|c| found[place(channels, c)]).collect();
            assert_eq!(found, expected, "{} {channels}", scheme.name());
        }
    }
}

#[test]
fn group_norm_is_refused_by_name() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let state = changed(&architecture, |tensors| tensors.retain(|name, _| !name.contains("running_")));
    let error = state.bind(&architecture, Scheme::Timm, Classifier::File).expect_err("a fault").to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(
        lines[1].starts_with("  normalisation: bn1: expected a batch norm") && lines[1].contains("group norm"),
        "{error}"
    );
}

#[test]
fn files_without_a_scheme_and_malformed_files_are_refused() {
    let tensors = BTreeMap::from([("layer.weight".to_string(), (safetensors::Dtype::F32, vec![1], vec![0; 4]))]);
    let state = StateDict::from_bytes("w", file(&tensors)).expect("a state dict");
    assert!(matches!(state.scheme(), Err(Error::Scheme { .. })));
    for bytes in [&b""[..], b"12345678", &[255; 64], &file(&tensors)[..60]] {
        let error = StateDict::from_bytes("w", Bytes::copy_from_slice(bytes));
        assert!(matches!(error, Err(Error::NotSafetensors { .. })), "{bytes:?}");
    }
}

#[test]
fn the_source_decides_on_eps_and_padding() {
    let v1 = small(Family::V1, Padding::Same, 1e-3);
    let b5 = scaled(Family::V1, (1.6, 2.2), 1000, Padding::Same, 1e-3);
    let v2 = small(Family::V2, Padding::Symmetric, 1e-5);
    let none = Hints::default();
    let file = |name: &str| Hints { file_name: Some(name.into()), ..Hints::default() };
    let config = Hints { architecture: Some("tf_efficientnet_b0".into()), ..file("efficientnet_b0.safetensors") };
    let (same, symmetric) = (Padding::Same, Padding::Symmetric);
    for (scheme, architecture, hints, eps, padding, certain) in [
        (Scheme::Torchvision, &v1, &none, 1e-5, symmetric, true),
        (Scheme::Torchvision, &b5, &none, 1e-3, symmetric, true),
        (Scheme::Torchvision, &v2, &none, 1e-3, symmetric, true),
        (Scheme::EfficientNetPytorch, &v1, &none, 1e-3, same, true),
        (Scheme::Transformers, &v1, &none, 1e-3, same, true),
        (Scheme::Transformers, &v1, &Hints { eps: Some(2e-3), ..Hints::default() }, 2e-3, same, true),
        (Scheme::Timm, &v1, &none, 1e-3, same, false),
        (Scheme::Timm, &v2, &file("model.safetensors"), 1e-5, symmetric, false),
        (Scheme::Timm, &v1, &file("efficientnet_b0.safetensors"), 1e-5, symmetric, true),
        (Scheme::Timm, &v1, &file("mobilenetv3_rw.safetensors"), 1e-3, symmetric, true),
        (Scheme::Timm, &v1, &config, 1e-3, same, true),
    ] {
        let found = scheme.defaults(architecture, hints);
        assert_eq!((found.eps, found.padding, found.certain), (eps, padding, certain), "{}", found.why);
    }
}

/// Whatever the bytes of the header are, reading ends in a state dict or an error.
#[test]
fn damaged_headers_do_no_harm() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let whole = file(&stored(&architecture, &Random { seed: 3 }, Scheme::Keras)).to_vec();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("a length")) as usize;
    let draws = fornax_ir::types::random_values(7, 600);
    for pair in draws.as_chunks::<2>().0 {
        let at = ((pair[0] + 1.0) / 2.0 * header as f32) as usize;
        let mut bytes = whole.clone();
        bytes[at.min(header - 1)] = ((pair[1] + 1.0) * 128.0) as u8;
        if let Ok(state) = StateDict::from_bytes("damaged", bytes.into()) {
            for scheme in Scheme::ALL {
                if let Ok(bound) = state.bind(&architecture, scheme, Classifier::File) {
                    parameters(&architecture).iter().for_each(|p| drop(bound.constant(p)));
                }
            }
        }
    }
}
