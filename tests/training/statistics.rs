//! Statistics of batch norms taken anew, against PyTorch's `update_bn`: `torch_statistics.py` writes what is expected.

use std::path::{Path, PathBuf};

use fornax::train::dataset::Photo;
use fornax::train::finetune::{FinetuneOptions, Flow, Norms, finetune};
use fornax::train::photos::{BadImages, Photos};
use fornax::train::recipe::Recipe;
use fornax::train::scope::Scope;
use fornax::{
    Bindings, ChannelOrder, Crop, DType, Interpolation, Layout, Model, Preprocess, Resampler, Resize, tensors,
};

/// Photos, of which two batches of three are taken, and two are left over.
const PHOTOS: usize = 8;
const BATCH: usize = 3;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/training/statistics")
}

fn photos() -> Photos {
    let photo = |at: usize| Photo { path: folder().join(format!("{at}.png")), class: at % 2 };
    let preprocess = Preprocess {
        channel_order: ChannelOrder::Rgb,
        resize: Resize::None,
        interpolation: Interpolation::Bilinear,
        resampler: Resampler::Pillow,
        crop: Crop::None,
        scale: 1.0 / 255.0,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        layout: Layout::Nchw,
        dtype: DType::F32,
    };
    Photos::load((0..PHOTOS).map(photo).collect(), &preprocess, BadImages::Refuse, 1 << 20, 1).expect("photos")
}

#[test]
fn statistics_taken_anew_are_those_of_torch() {
    let (model, photos) = (Model::open(folder().join("model.onnx")).expect("a model"), photos());
    let classes = ["even", "odd"].map(String::from);
    let recipe = Recipe { scope: Scope::Head, norms: Norms::Statistics, ..Recipe::default() };
    for threads in [1, 2] {
        let options = FinetuneOptions { recipe, batch: BATCH, threads, ..FinetuneOptions::default() };
        let done = finetune(&model, (&photos, &photos), &classes, &options, None, &mut |_| Flow::Continue);
        let graph = done.expect("a run").model.graph(&Bindings::default()).expect("a graph");
        let expected = tensors::load(folder().join("expected.safetensors")).expect("what torch says");
        assert_eq!(expected.len(), 6);
        for one in expected {
            let name = one.name.expect("a name");
            let node = graph.ids().map(|id| graph.node(id)).find(|node| node.name == name);
            let found = node.and_then(|node| node.constant()?.to_f32()).unwrap_or_else(|| panic!("no {name}"));
            let (expected, old) = (one.tensor.to_f64_vec(), model.graph(&Bindings::default()).expect("a graph"));
            let old = old.ids().map(|id| old.node(id)).find(|node| node.name == name);
            assert_ne!(old.and_then(|node| node.constant()?.to_f32()).as_ref(), Some(&found), "{name}");
            let most = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let off = (f64::from(*found) - expected).abs() / most;
                assert!(off < 2e-6, "{name}: {found} instead of {expected}, {off:e}");
            }
        }
    }
}
