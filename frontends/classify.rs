//! From the output of a classifier to its most likely classes.
//!
//! In: an output tensor of one score per class and image. Out: probabilities, and the classes with the highest ones.

use std::path::Path;

use fornax_runtime::Tensor;

use crate::error::{Error, Result};

/// The most bytes a file of labels may have.
const LABELS_LIMIT: u64 = 16 << 20;

/// What the numbers of an output are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scores {
    /// Softmax makes them probabilities.
    Logits,
    /// They are probabilities.
    Probabilities,
    /// Their exponentials are.
    LogProbabilities,
}

/// A class and its probability.
#[derive(Clone, PartialEq, Debug)]
pub struct Class {
    /// Position among the outputs.
    pub index: usize,
    /// Its name, if there are labels.
    pub label: Option<String>,
    /// Its probability.
    pub score: f64,
}

/// Probabilities of each image of an output: `[n, classes]`, or more axes of extent 1.
///
/// # Errors
/// [`Error::Input`] if the output is not of that form.
pub fn probabilities(output: &Tensor, scores: Scores) -> Result<Vec<Vec<f64>>> {
    let shape = output.shape();
    let wide = shape.iter().skip(1).filter(|extent| **extent != 1).count();
    let classes = shape.iter().skip(1).product::<usize>();
    if shape.rank() < 2 || wide > 1 || classes == 0 {
        let found = format!("{}{shape}", output.dtype());
        return Err(Error::input("output", "one score per class, [n, classes]", found));
    }
    Ok(output.to_f64_vec().chunks(classes).map(|scored| normalised(scored, scores)).collect())
}

fn normalised(values: &[f64], scores: Scores) -> Vec<f64> {
    match scores {
        Scores::Probabilities => values.to_vec(),
        Scores::LogProbabilities => values.iter().map(|v| v.exp()).collect(),
        Scores::Logits => {
            let largest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = values.iter().map(|v| (v - largest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.iter().map(|p| p / sum).collect()
        }
    }
}

/// The `count` classes of the highest probability, highest first, lower index first among equals; NaN counts as lowest.
pub fn top(probabilities: &[f64], count: usize, labels: Option<&[String]>) -> Vec<Class> {
    let key = |index: &usize| {
        let p = probabilities[*index];
        if p.is_nan() { f64::NEG_INFINITY } else { p }
    };
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    order.sort_by(|a, b| key(b).total_cmp(&key(a)).then(a.cmp(b)));
    let label = |index: usize| labels.and_then(|labels| labels.get(index).cloned());
    let class = |index: usize| Class { index, label: label(index), score: probabilities[index] };
    order.into_iter().take(count).map(class).collect()
}

/// Classes of a network of ImageNet whose class 0 is the background, which lists of labels leave out.
const WITH_BACKGROUND: usize = 1001;

/// Labels that fit `classes` outputs: as they are, or ImageNet's 1000 shifted by one for a network of 1001 classes.
///
/// # Errors
/// [`Error::Input`] if their number does not fit.
pub fn fit_labels(mut labels: Vec<String>, classes: usize) -> Result<Vec<String>> {
    if classes == WITH_BACKGROUND && labels.len() + 1 == classes {
        labels.insert(0, "background".into());
    }
    if labels.len() != classes {
        return Err(Error::input("labels", format!("{classes}, one per output"), labels.len().to_string()));
    }
    Ok(labels)
}

/// Reads a file of labels: UTF-8, one per line in the order of the outputs. A byte-order mark and empty lines at the end are no
/// labels.
///
/// # Errors
/// [`Error::File`] or [`Error::Runtime`] naming the path.
pub fn read_labels(path: &Path) -> Result<Vec<String>> {
    let bytes = fornax_runtime::map_file(path, LABELS_LIMIT)?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::file(path, "expected UTF-8 text, one label per line"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let labels: Vec<String> = text.trim_end().lines().map(|line| line.trim().to_string()).collect();
    if labels.is_empty() {
        return Err(Error::file(path, "expected one label per line, found an empty file"));
    }
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_of_large_logits() {
        let output = Tensor::from_f32([2, 2, 1], &[1000.0, 1000.0, -1000.0, 0.0]).unwrap();
        assert_eq!(probabilities(&output, Scores::Logits).unwrap(), [[0.5, 0.5], [0.0, 1.0]]);
        let log = Tensor::from_f32([1, 2], &[0.0, f32::NEG_INFINITY]).unwrap();
        assert_eq!(probabilities(&log, Scores::LogProbabilities).unwrap(), [[1.0, 0.0]]);
    }

    #[test]
    fn refuses_other_outputs() {
        for shape in [vec![4], vec![1, 2, 2], vec![1, 0, 4]] {
            let output = Tensor::zeros(fornax_runtime::DType::F32, shape).unwrap();
            assert!(probabilities(&output, Scores::Logits).is_err(), "{output:?}");
        }
    }

    #[test]
    fn ties_and_nan() {
        let order: Vec<usize> = top(&[0.2, f64::NAN, 0.4, 0.4], 9, None).iter().map(|c| c.index).collect();
        assert_eq!(order, [2, 3, 0, 1]);
    }

    #[test]
    fn a_background_class_shifts_the_labels_of_imagenet() {
        let labels = |count: usize| (0..count).map(|i| i.to_string()).collect::<Vec<_>>();
        let shifted = fit_labels(labels(1000), 1001).unwrap();
        assert_eq!((shifted[0].as_str(), shifted[1].as_str(), shifted.len()), ("background", "0", 1001));
        assert_eq!(fit_labels(labels(2), 2).unwrap(), ["0", "1"]);
        for (count, classes) in [(2, 3), (9, 10), (999, 1000), (1001, 1000), (2, 5)] {
            let message = fit_labels(labels(count), classes).unwrap_err().to_string();
            assert!(message.contains(&format!("expected {classes}, one per output, found {count}")), "{message}");
        }
    }

    #[test]
    fn marks_and_empty_lines_are_no_labels() {
        let folder = tempfile::tempdir().unwrap();
        let read = |bytes: &[u8]| {
            let path = folder.path().join("labels.txt");
            std::fs::write(&path, bytes).unwrap();
            read_labels(&path).map_err(|e| e.to_string())
        };
        for text in ["a\nb c\n", "a\nb c", "\u{feff}a\nb c\n", "a\r\nb c\r\n\r\n", "a\nb c\n\n  \n"] {
            assert_eq!(read(text.as_bytes()), Ok(vec!["a".to_string(), "b c".into()]), "{text:?}");
        }
        assert_eq!(read(b"a\n\nb\n").unwrap().len(), 3);
        assert!(read("\u{feff}\n".as_bytes()).is_err() && read(b"").is_err());
    }
}
