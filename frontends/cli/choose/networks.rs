//! The networks that are compared: which files, at which sizes, with which weights and preprocessing.

use std::path::{Path, PathBuf};

use fornax::{
    Bindings, Dim, Error, ImageConvention, ImageInput, Limits, Model, Options, Preprocess, Result, ScaledOptions,
    open_spec,
};

use super::Args;

/// A network at a size.
#[derive(Clone)]
pub(super) struct Network {
    /// What it is called: the name of its file, or of its folder.
    pub label: String,
    /// The file, folder of a run, or preset.
    pub path: PathBuf,
    /// Whether it was found in a folder, rather than named.
    pub found: bool,
    weights: Option<PathBuf>,
    convention: Option<ImageConvention>,
    /// The side asked for.
    side: Option<usize>,
}

/// Suffixes of the files of a folder that are networks.
const SUFFIXES: [&str; 2] = ["onnx", "toml"];
/// Names of the files of a folder that is a run, or a model by itself.
const IN_FOLDER: [&str; 2] = ["model.toml", "model.onnx"];

/// All networks that the arguments name, each at each size.
///
/// # Errors
/// [`Error::Usage`] for an option about none of them, or a folder without any; [`Error::File`] for one that cannot be
/// read.
pub(super) fn all(args: &Args) -> Result<Vec<Network>> {
    let mut paths = Vec::new();
    for path in &args.networks {
        match path.is_dir() && !is_network(path) {
            true => paths.extend(inside(path)?.into_iter().map(|path| (path, true))),
            false => paths.push((path.clone(), false)),
        }
    }
    let labels: Vec<String> = paths.iter().map(|(path, _)| label(path)).collect();
    let named = args.weights.iter().map(|(name, _)| ("--weights", name));
    for (flag, name) in named.chain(args.preprocess.iter().map(|(name, _)| ("--preprocess", name))) {
        if !paths.iter().zip(&labels).any(|((path, _), label)| is_called(path, label, name)) {
            return Err(Error::usage(flag, format!("one of the networks ({})", labels.join(", ")), name.as_str()));
        }
    }
    let mut all = Vec::new();
    for ((path, found), label) in paths.into_iter().zip(labels) {
        let weights =
            args.weights.iter().find(|(name, _)| is_called(&path, &label, name)).map(|(_, file)| file.clone());
        let convention = args.preprocess.iter().find(|(name, _)| is_called(&path, &label, name)).map(|(_, own)| *own);
        let own = Network { label, path, found, weights, convention, side: None };
        let scaled = Path::new(&own.file()).extension().is_none_or(|suffix| suffix == "toml");
        if !scaled || args.sizes.is_empty() {
            all.push(own);
            continue;
        }
        for side in &args.sizes {
            let label = format!("{} at {side}", own.label);
            all.push(Network { label, side: Some(*side as usize), ..own.clone() });
        }
    }
    Ok(all)
}

fn is_network(folder: &Path) -> bool {
    IN_FOLDER.iter().any(|name| folder.join(name).is_file())
}

/// The networks of a folder: its files, and the folders in it that are networks, by name.
fn inside(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |e: std::io::Error| Error::File { path: folder.into(), message: format!("cannot read: {e}") };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_file =
            path.is_file() && path.extension().is_some_and(|own| SUFFIXES.iter().any(|suffix| own == *suffix));
        if is_file || path.is_dir() && is_network(&path) {
            found.push(path);
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(Error::usage("networks", "ONNX files, specs or runs in the folder", folder.display().to_string())),
        false => Ok(found),
    }
}

/// The name of a folder, or of a file without its suffix; of one that is called after its kind, its folder's.
fn label(path: &Path) -> String {
    let is_file = path.extension().is_some_and(|own| SUFFIXES.iter().any(|suffix| own == *suffix));
    let name = if is_file { path.file_stem() } else { path.file_name() };
    let stem = name.unwrap_or(path.as_os_str());
    let parent = path.parent().and_then(Path::file_name).filter(|_| stem == "model");
    parent.unwrap_or(stem).to_string_lossy().into_owned()
}

fn is_called(path: &Path, label: &str, name: &str) -> bool {
    name == label || Path::new(name) == path
}

impl Network {
    /// The file that the network is read from.
    fn file(&self) -> PathBuf {
        let inside = IN_FOLDER.iter().map(|name| self.path.join(name)).find(|file| file.is_file());
        inside.unwrap_or_else(|| self.path.clone())
    }

    /// The files that it is read from, as far as the arguments name them.
    pub fn files(&self) -> Vec<PathBuf> {
        [self.file()].into_iter().chain(self.weights.clone()).collect()
    }

    /// The network with its weights.
    ///
    /// # Errors
    /// As [`Model::open_with`]; [`Error::Usage`] for a library, and for a spec or preset without weights.
    pub fn open(&self) -> Result<Model> {
        let file = self.file();
        if let Some(spec) = open_spec(&file, Limits::default().file_bytes)? {
            if self.weights.is_none() && spec.weights.is_none() {
                let found = format!("{}, which has none of its own", self.path.display());
                return Err(Error::usage("--weights", "NETWORK=FILE for every spec and preset", found));
            }
        } else if self.weights.is_some() {
            return Err(Error::usage("--weights", "a spec or preset", self.path.display().to_string()));
        }
        let scaled = ScaledOptions {
            weights: self.weights.clone(),
            side: self.side.map(|side| (side, side)),
            ..ScaledOptions::default()
        };
        let model = Model::open_with(&file, &Options { scaled, ..Options::default() })?;
        match model.library() {
            Some(_) => {
                let expected = "a network that can be trained: an ONNX file, spec or preset";
                Err(Error::usage("networks", expected, self.path.display().to_string()))
            }
            None => Ok(model),
        }
    }

    /// The preprocessing of photos, and who says so.
    ///
    /// # Errors
    /// [`Error::Input`] if the network takes no photos; [`Error::Usage`] if nothing says their size.
    pub fn preprocess(&self, model: &Model) -> Result<(Preprocess, &'static str)> {
        let input = ImageInput::of(model.inputs())?;
        let own = model.preprocess()?.filter(|_| self.convention.is_none());
        if let Some(preprocess) = own {
            return Ok((preprocess, "from the model's metadata"));
        }
        if input.height == 0 || input.width == 0 {
            return Err(Error::usage("networks", "inputs of a known size", self.path.display().to_string()));
        }
        let source = if self.convention.is_some() { "as asked for" } else { "by default; the model does not say" };
        let convention = self.convention.unwrap_or(ImageConvention::Imagenet);
        let convention = model.architecture().map_or(convention, |network| convention.of_architecture(network));
        Ok((convention.preprocess(&input), source))
    }

    /// The shapes for one image.
    ///
    /// # Errors
    /// As [`Network::preprocess`].
    pub fn bindings(&self, model: &Model) -> Result<Bindings> {
        let mut bindings = Bindings::default();
        let [input] = model.inputs() else { return Ok(bindings) };
        if input.dims.iter().skip(1).any(|dim| matches!(dim, Dim::Symbol(_))) {
            let shape = self.preprocess(model)?.0.size().zip(ImageInput::of(model.inputs()).ok());
            bindings.shapes.extend(shape.map(|((height, width), image)| {
                let shape = match image.layout {
                    fornax::Layout::Nchw => vec![1, image.channels, height, width],
                    fornax::Layout::Nhwc => vec![1, height, width, image.channels],
                };
                (image.name, shape)
            }));
        }
        Ok(bindings)
    }

    /// The command that fine-tunes it at this side.
    pub fn command(&self, args: &Args, side: usize) -> String {
        let mut words = vec!["fornax".to_string(), "finetune".to_string(), quoted(&self.path), quoted(&args.photos)];
        words.extend(["-o".to_string(), "run".to_string()]);
        if let Some(weights) = &self.weights {
            words.extend(["--weights".to_string(), quoted(weights)]);
        }
        if self.side.is_some() {
            words.extend(["--side".to_string(), side.to_string()]);
        }
        let name = self.convention.and_then(|own| ImageConvention::NAMES.iter().find(|(_, known)| *known == own));
        if let Some((name, _)) = name {
            words.extend(["--preprocess".to_string(), (*name).to_string()]);
        }
        words.join(" ")
    }
}

/// A path as a shell reads it as one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) && !text.is_empty() { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_called_after_their_files() {
        let names =
            ["a/b0.1.onnx", "a/run/model.onnx", "efficientnet-b0", "a/run.5"].map(|path| label(Path::new(path)));
        assert_eq!(names, ["b0.1", "run", "efficientnet-b0", "run.5"]);
    }

    #[test]
    fn words_of_a_command_are_whole() {
        let words = ["a/b.onnx", "my photos", "it's"].map(|path| quoted(Path::new(path)));
        assert_eq!(words, ["a/b.onnx", "'my photos'", "'it'\\''s'"]);
    }
}
