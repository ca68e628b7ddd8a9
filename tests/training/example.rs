//! The example with the loop in the program, on the demo's photos.

use fornax::Model;
use fornax::train::dataset::{Dataset, DatasetOptions};
use fornax::train::outputs::probabilities;
use fornax::train::photos::{BadImages, Photos};

use crate::support;

#[path = "../../examples/train.rs"]
#[allow(dead_code, reason = "its main is another program's")]
mod train;

#[test]
fn the_example_leaves_a_network_that_tells_signs_apart() {
    let (output, examples) = (tempfile::tempdir().expect("a folder"), support::examples());
    let photos = examples.join("transfer");
    train::train(&examples.join("signs.onnx"), &photos, output.path()).expect("a run");
    let dataset = Dataset::open(&photos, &DatasetOptions::default()).expect("photos");
    let of = |file: &str| {
        let model = Model::open(output.path().join(file)).expect("a model");
        assert_eq!(model.labels().expect("labels").as_ref(), Some(&dataset.classes));
        let preprocess = model.preprocess().expect("settings").expect("how photos become inputs");
        let val = Photos::load(dataset.validation.clone(), &preprocess, BadImages::Refuse, 1 << 24, 2).expect("photos");
        let said = probabilities(&model, &val, 2).expect("probabilities");
        let right = val.photos().iter().zip(&said).filter(|(photo, row)| row[photo.class] > 0.5).count();
        (said, right)
    };
    let ((onnx, right), (library, _)) = (of("model.onnx"), of("net.so"));
    assert!(right >= 32, "{right} of 40");
    assert_eq!(onnx, library);
    assert!(output.path().join("checkpoint").exists());
}
