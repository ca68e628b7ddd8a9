//! Models as ONNX files.

use bytes::Bytes;
use fornax_ir::inputs::Bindings;
use fornax_onnx::{ExportOptions, OnnxFile};

use super::compile::optimise;
use super::model::Model;
use crate::error::{Error, Result};

impl Model {
    /// The model as an ONNX file of opset 18: its graph before the passes, or with batch norms folded into weights and shape
    /// arithmetic gone. With `open_batch` the first dimension of the inputs stays open, if the network computes every image by
    /// itself.
    ///
    /// # Errors
    /// As [`Model::graph`]; [`Error::Usage`] if the batch cannot stay open.
    pub fn export(&self, bindings: &Bindings, fold: bool, open_batch: bool) -> Result<Bytes> {
        let located = |error| Error::Model { path: self.path().to_path_buf(), error: Box::new(error) };
        let mut graph = self.graph(bindings)?;
        if fold {
            graph = optimise(graph, Some("fold_batch_norm"), self.options())?.graph;
        }
        let options = ExportOptions { open_batch, metadata: self.metadata().clone() };
        let bytes = fornax_onnx::export(&graph, &options).map_err(located)?;
        if open_batch {
            let two = Bindings { dims: [("batch".to_string(), 2)].into(), ..Bindings::default() };
            let again =
                OnnxFile::from_bytes(bytes.clone(), None, &self.options().limits).and_then(|file| file.import(&two));
            let grown = again.is_ok_and(|again| {
                let types = again.outputs().iter().map(|(_, id)| &again.ty(*id).shape);
                let before = graph.outputs().iter().map(|(_, id)| &graph.ty(*id).shape);
                types.zip(before).all(|(now, before)| now.first() == before.first().map(|n| n * 2).as_ref())
            });
            if !grown {
                let found = "a network whose shapes or results mix the batch";
                return Err(Error::usage("--fixed-batch", "it, as the batch cannot stay open", found));
            }
        }
        Ok(bytes)
    }
}
