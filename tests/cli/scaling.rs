//! Specs, presets and budgets on the command line; `export` and `features`.

use serde_json::Value;

use super::{MODEL, Scratch, fails, fornax, json, text};
use fornax::tensors;

/// A small member of the family, for tests that run it.
const SMALL: &str = "base = \"efficientnet_b0\"\nwidth = 0.25\ndepth = 0.35\nresolution = 32\nclasses = 10\n";

#[test]
fn a_preset_is_a_model() {
    let stats = json(&["inspect", "EfficientNet-B0", "--stats"]);
    assert_eq!(
        (&stats["params"], &stats["macs"], &stats["nodes"]),
        (&5_288_548.into(), &385_814_752.into(), &21.into())
    );
    let presets = json(&["list-presets"])["presets"].as_array().unwrap().clone();
    assert!(presets.len() >= 55 && presets.iter().any(|preset| preset["name"] == "mixnet_s"));
    fails(&["inspect", "efficientnet-b9"], 1, "did you mean `efficientnet_b");
    fails(&["inspect", "no-such.onnx"], 1, "no-such.onnx");
    fails(&["inspect", MODEL, "--classes", "10"], 2, "a spec or preset");
}

#[test]
fn a_spec_runs_compiles_and_exports() {
    let scratch = Scratch::new();
    let spec = scratch.file("small.toml", SMALL.as_bytes());
    let run = |model: &str, name: &str| {
        let saved = scratch.name(name);
        text(&["bench", model, "--seconds", "0", "--min-runs", "1", "--save", &saved]);
        tensors::load(&saved).unwrap().remove(0).tensor
    };
    let direct = run(&spec, "direct.npy");
    assert_eq!(direct.shape().to_vec(), [1, 10]);
    let (so, onnx) = (scratch.name("small.so"), scratch.name("small.onnx"));
    text(&["compile", &spec, "-o", &so]);
    assert_eq!(run(&so, "so.npy").bytes(), direct.bytes());
    text(&["export", &spec, "-o", &onnx]);
    assert_eq!(run(&onnx, "onnx.npy").bytes(), direct.bytes());
    assert!(text(&["inspect", &onnx]).contains("input  f32[batch,3,32,32]"));
    let other = text(&["inspect", &spec, "--seed", "2", "--after", "import"]);
    assert_ne!(other, text(&["inspect", &spec, "--after", "import"]));
    let pyramid = text(&["inspect", &spec, "--features", "4,8,16,32"]);
    assert_eq!(pyramid.matches("output").count(), 4, "{pyramid}");
    assert!(text(&["inspect", &spec, "--features", "pooled"]).contains("pooled  f32[1,320]"));
    fails(&["inspect", &spec, "--features", "3"], 2, "reductions");
}

#[test]
fn wrong_specs_say_where() {
    let scratch = Scratch::new();
    for (line, expected) in [
        ("width = -1", "width"),
        ("widht = 1.0", "did you mean `width`"),
        ("resolution = 1", "resolution"),
        ("depth = 1e9", "depth"),
        ("width = \"wide\"", "width"),
        ("stages = [{ filters = 8, kernel = 0 }]", "kernel"),
    ] {
        let spec = scratch.file("wrong.toml", format!("base = \"efficientnet_b0\"\n{line}\n").as_bytes());
        fails(&["inspect", &spec, "--stats"], 1, "wrong.toml:2");
        fails(&["inspect", &spec, "--stats"], 1, expected);
    }
    let absent = scratch.file("weights.safetensors", b"none");
    fails(&["inspect", "efficientnet-b0", "--weights", &absent], 1, "not a safetensors file");
}

#[test]
fn checkpoints_are_known_by_content_and_models_are_refused() {
    let scratch = Scratch::new();
    let folder = "frontends/scaling/tests/data";
    let named = |name: &str| scratch.file(name, &std::fs::read(format!("{folder}/{name}")).unwrap());
    let (model, run) = (named("model.pth"), named("run.pth"));
    fails(&["inspect", "efficientnet-b0", "--weights", &model], 1, "torch.nn.modules.linear.Linear");
    // A state dict, but of no network that is known.
    let renamed = scratch.file("run.safetensors", &std::fs::read(&run).unwrap());
    fails(&["inspect", "efficientnet-b0", "--weights", &renamed], 1, "naming scheme: expected one of timm, ");
    fails(
        &["inspect", "efficientnet-b0", "--weights", &run, "--ignore", "fc.*"],
        2,
        "expected one that matches a tensor, found w",
    );
    fails(&["inspect", "efficientnet-b0", "--ignore", "fc.*"], 2, "a state dict (--weights)");
    let inputs = &json(&["inspect", "efficientnet-b0", "--channels", "4"])["inputs"];
    assert_eq!(inputs[0]["type"], "f32[batch,4,224,224]");
    for (flag, value) in [("--channels", "1"), ("--ignore", "x")] {
        fails(&["inspect", MODEL, flag, value], 2, "a spec or preset");
    }
    fails(&["inspect", "efficientnet-b0", "--channels", "0"], 2, "--channels");
}

#[test]
fn a_dataset_is_looked_at() {
    let scratch = Scratch::new();
    let folder = scratch.name("photos");
    for (from, to) in [
        ("stop.jpg", "train/stop/1.jpg"),
        ("yield.jpg", "train/yield/1.jpg"),
        ("stop.jpg", "train/yield/2.jpg"),
        ("yield.jpg", "val/yield/1.jpg"),
        ("no_entry.jpg", "val/stop/1.jpg"),
    ] {
        let to = format!("{folder}/{to}");
        std::fs::create_dir_all(std::path::Path::new(&to).parent().unwrap()).unwrap();
        std::fs::copy(format!("examples/photos/{from}"), to).unwrap();
    }
    std::fs::write(format!("{folder}/train/stop/2\n.png"), b"none").unwrap();
    let shown = text(&["dataset", &folder]);
    for expected in [
        "2 classes, 6 photos: 4 to train, 2 to validate (in ",
        "stop        2       1",
        "broken  train/stop/2\\n.png: expected an image, found another kind of file",
        "equal   train/stop/1.jpg  train/yield/2.jpg, of several classes",
        "equal   train/yield/1.jpg  val/yield/1.jpg, LEAK: to train and to validate",
        "1 broken, 2 groups of equal files, 0 of near duplicates, 1 of these leaks",
    ] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let found = json(&["dataset", &format!("{folder}/train"), "--val", "0.5", "--threads", "1"]);
    assert_eq!((&found["train"], &found["val"], &found["val_folder"]), (&2.into(), &2.into(), &Value::Null));
    assert_eq!(found["equal"][0]["conflict"], true);
    fails(
        &["dataset", "examples/photos"],
        1,
        "expected a folder of photos for each class in examples/photos, found none",
    );
    fails(&["dataset", &folder, "--val", "1.5"], 2, "a number above 0 and below 1");
    fails(&["dataset", &folder, "--val", "nowhere"], 1, "nowhere: expected a folder of photos");
}

#[test]
fn nothing_is_written_over_its_source() {
    let scratch = Scratch::new();
    let spec = scratch.file("small.toml", SMALL.as_bytes());
    fails(&["export", &spec, "-o", &spec], 2, "another file than the model");
    fails(&["scale", &spec, "--phi", "0:0", "--count", "-o", &spec], 2, "another file than the model");
    fails(&["features", MODEL, "examples/photos", "-o", &spec], 2, "suffix .npy or .safetensors");
    assert_eq!(std::fs::read_to_string(&spec).unwrap(), SMALL);
}

#[test]
fn photos_fit_inputs_that_are_not_square() {
    let scratch = Scratch::new();
    let spec = scratch.file("small.toml", SMALL.as_bytes());
    let saved = scratch.name("y.npy");
    text(&["run", &spec, "--side", "48x32", "--image", super::PHOTO, "--save", &saved]);
    assert_eq!(tensors::load(&saved).unwrap().remove(0).tensor.shape().to_vec(), [1, 10]);
    fails(&["run", &spec, "--features", "pooled", "--image", super::PHOTO], 2, "features are no classes");
}

#[test]
fn budgets_are_met_by_counting() {
    let solution = json(&["scale", "efficientnet-b0", "--macs", "2G"]);
    let (unraised, chosen) = (&solution["unraised"], &solution["chosen"]);
    assert_eq!((&unraised["phi"], &unraised["macs"]), (&Value::from(2.21), &1_877_159_456u64.into()));
    assert!(
        chosen["macs"].as_u64().unwrap() <= 2_000_000_000
            && solution["next_side"]["macs"].as_u64().unwrap() > 2_000_000_000
    );
    let scratch = Scratch::new();
    let spec = scratch.name("small.toml");
    let shown = text(&["scale", "--params", "2M", "-o", &spec]);
    assert!(shown.contains("chosen") && shown.contains("% over"), "{shown}");
    assert!(json(&["inspect", &spec, "--stats"])["params"].as_u64().unwrap() <= 2_000_000);
    fails(&["scale", "--params", "1k"], 1, "fits the budget");
    fails(&["scale", "--latency", "10"], 2, "a time such as 10ms");
    fails(&["scale", "--phi", "3:1"], 2, "FROM below TO");
}

#[test]
fn phi_0_is_the_named_network_and_figures_are_its_own() {
    let table = json(&["scale", "efficientnet-b3", "--phi", "0:0", "--count"]);
    assert_eq!((&table["members"][0]["side"], &table["members"][0]["macs"]), (&300.into(), &1_827_141_392u64.into()));
    assert!(text(&["scale", "efficientnet-b0", "--phi", "0:0", "--count"]).contains("77.1 %"));
    let scratch = Scratch::new();
    let spec = scratch.file("efficientnet_b0.toml", b"base = \"mixnet_s\"\n");
    assert!(text(&["scale", &spec, "--phi", "0:0", "--count"]).contains("no published figures"));
}

#[test]
fn a_family_is_measured() {
    let scratch = Scratch::new();
    let (spec, chart) = (scratch.file("small.toml", SMALL.as_bytes()), scratch.name("chart.svg"));
    let table = json(&["scale", &spec, "--phi", "-1:1", "--chart", &chart]);
    let members = table["members"].as_array().unwrap();
    assert_eq!(members.len(), 3);
    assert!(members.iter().all(|member| member["latency_ms"].as_f64().unwrap() > 0.0));
    assert!(std::fs::read_to_string(chart).unwrap().starts_with("<svg"));
    assert!(text(&["scale", &spec, "--grid"]).ends_with("nothing here predicts it\n"));
}

#[test]
fn features_of_a_folder() {
    let scratch = Scratch::new();
    let (npy, list) = (scratch.name("f.npy"), scratch.name("f.txt"));
    text(&["features", MODEL, "examples/photos", "-o", &npy, "--list", &list]);
    let features = tensors::load(&npy).unwrap().remove(0).tensor;
    assert_eq!(features.shape().to_vec(), [12, 448]);
    assert_eq!(std::fs::read_to_string(list).unwrap().lines().count(), 12);
    let one = scratch.name("one.safetensors");
    text(&["features", MODEL, "examples/photos", "-o", &one, "--threads", "1"]);
    assert_eq!(tensors::load(&one).unwrap().remove(0).tensor.bytes(), features.bytes());
    fails(&["features", MODEL, "docs", "-o", &npy], 2, "images in it");
    assert!(!fornax(&["features", MODEL, "examples/absent", "-o", &npy]).status.success());
}
