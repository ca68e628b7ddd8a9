//! Published networks by name, as specs.
//!
//! In: a name; case does not matter and `-` equals `_`. Out: its spec. The specs are data, `presets/*.toml`: each file maps
//! names to documents of the same schema that users write, most of them based on another one.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use super::{Document, Source, Spec, SpecError};
use crate::suggest;

/// File name and text.
const FILES: [(&str, &str); 9] = [
    ("presets/efficientnet.toml", include_str!("../../presets/efficientnet.toml")),
    ("presets/efficientnet_lite.toml", include_str!("../../presets/efficientnet_lite.toml")),
    ("presets/efficientnet_edgetpu.toml", include_str!("../../presets/efficientnet_edgetpu.toml")),
    ("presets/efficientnetv2.toml", include_str!("../../presets/efficientnetv2.toml")),
    ("presets/mobilenetv2.toml", include_str!("../../presets/mobilenetv2.toml")),
    ("presets/mobilenetv3.toml", include_str!("../../presets/mobilenetv3.toml")),
    ("presets/mnasnet.toml", include_str!("../../presets/mnasnet.toml")),
    ("presets/mixnet.toml", include_str!("../../presets/mixnet.toml")),
    ("presets/tinynet.toml", include_str!("../../presets/tinynet.toml")),
];

/// All presets, by name.
struct Library {
    names: Vec<String>,
    documents: BTreeMap<String, (Document, Arc<Source>)>,
}

fn library() -> Result<&'static Library, SpecError> {
    static LIBRARY: OnceLock<Result<Library, SpecError>> = OnceLock::new();
    LIBRARY.get_or_init(read).as_ref().map_err(Clone::clone)
}

fn read() -> Result<Library, SpecError> {
    let mut library = Library { names: Vec::new(), documents: BTreeMap::new() };
    for (file, text) in FILES {
        let source = Arc::new(Source { file: file.into(), text: text.into() });
        let table: BTreeMap<toml::Spanned<String>, Document> =
            toml::from_str(text).map_err(|error| source.translate(&error))?;
        let mut rows: Vec<_> = table.into_iter().collect();
        rows.sort_by_key(|(name, _)| name.span().start);
        for (name, document) in rows {
            let name = name.into_inner();
            library.names.push(name.clone());
            library.documents.insert(name, (document, source.clone()));
        }
    }
    Ok(library)
}

/// Names of all presets, family by family, in the order of their files.
pub fn names() -> Result<&'static [String], SpecError> {
    library().map(|library| library.names.as_slice())
}

/// Whether this is the name of a file of presets.
pub(crate) fn is_source(file: &str) -> bool {
    FILES.iter().any(|(name, _)| *name == file)
}

/// The spec of a preset.
pub fn spec(name: &str) -> Result<Spec, SpecError> {
    let normal = normal(name);
    let library = library()?;
    let Some((document, source)) = library.documents.get(&normal) else {
        let mut close = suggest::nearest(&normal, library.names.iter().map(String::as_str));
        close.truncate(3);
        let suggestions = close.into_iter().map(str::to_string).collect();
        return Err(SpecError::UnknownPreset { name: name.to_string(), suggestions });
    };
    Spec::read(document, source, &normal)
}

fn normal(name: &str) -> String {
    name.trim().to_ascii_lowercase().replace('-', "_")
}
