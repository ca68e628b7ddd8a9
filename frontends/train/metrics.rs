//! How good a classifier is, from what it says of photos whose classes are known.
//!
//! In: probabilities of each photo, and its class. Out: the figures that people compare. The class of the highest probability is the answer, the
//! first among equals.

/// What a network says of photos.
#[derive(Clone, PartialEq, Debug)]
pub struct Evaluation {
    /// The true class of each photo.
    labels: Vec<usize>,
    /// One probability per class of each photo.
    probabilities: Vec<Vec<f64>>,
    classes: usize,
}

/// The figures of a class.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct OfClass {
    /// Photos that show it.
    pub photos: usize,
    /// Photos that show it and are told so.
    pub right: usize,
    /// Photos that are taken for it.
    pub taken: usize,
}

impl OfClass {
    /// The share of its photos that are told right; none without photos.
    pub fn recall(&self) -> Option<f64> {
        (self.photos > 0).then(|| self.right as f64 / self.photos as f64)
    }

    /// The share of the photos taken for it that show it; none if none is.
    pub fn precision(&self) -> Option<f64> {
        (self.taken > 0).then(|| self.right as f64 / self.taken as f64)
    }

    /// The harmonic mean of both; none if it has no photos and none is taken for it.
    pub fn f1(&self) -> Option<f64> {
        let all = self.photos + self.taken;
        (all > 0).then(|| 2.0 * self.right as f64 / all as f64)
    }
}

/// Photos of like confidence: how many, the mean of the highest probability, the share told right.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Bin {
    /// Photos whose highest probability lies in the bin.
    pub photos: usize,
    /// Mean of their highest probabilities.
    pub confidence: f64,
    /// Share of them told right.
    pub accuracy: f64,
}

/// Number of bins of [`Evaluation::calibration`].
pub const BINS: usize = 15;

impl Evaluation {
    /// What a network of `classes` classes says: `probabilities[i]` of a photo of class `labels[i]`.
    pub fn new(labels: Vec<usize>, probabilities: Vec<Vec<f64>>, classes: usize) -> Self {
        Self { labels, probabilities, classes }
    }

    /// Number of photos.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The true class of each photo.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// The probabilities of each photo.
    pub fn probabilities(&self) -> &[Vec<f64>] {
        &self.probabilities
    }

    /// The answer for a photo.
    pub fn answer(&self, photo: usize) -> usize {
        let p = &self.probabilities[photo];
        (0..p.len()).fold(0, |best, class| if p[class] > p[best] || p[best].is_nan() { class } else { best })
    }

    /// The share of photos whose class is among the `k` most likely.
    pub fn accuracy(&self, k: usize) -> f64 {
        let right = self.labels.iter().zip(&self.probabilities).filter(|(label, p)| {
            let own = p.get(**label).copied().unwrap_or(f64::NAN);
            let before = p.iter().enumerate().filter(|(at, other)| **other > own || (**other == own && at < label));
            !own.is_nan() && before.count() < k
        });
        right.count() as f64 / self.len().max(1) as f64
    }

    /// Mean cross-entropy, of probabilities of at least 1e-12.
    pub fn loss(&self) -> f64 {
        let of = |(label, p): (&usize, &Vec<f64>)| -libm::log(p.get(*label).copied().unwrap_or(0.0).max(1e-12));
        self.labels.iter().zip(&self.probabilities).map(of).sum::<f64>() / self.len().max(1) as f64
    }

    /// The figures of each class.
    pub fn by_class(&self) -> Vec<OfClass> {
        let mut found = vec![OfClass::default(); self.classes];
        for (photo, label) in self.labels.iter().enumerate() {
            let answer = self.answer(photo);
            found[*label].photos += 1;
            found[*label].right += usize::from(answer == *label);
            found[answer].taken += 1;
        }
        found
    }

    /// How many photos of each class (row) are taken for each class (column).
    pub fn confusion(&self) -> Vec<Vec<usize>> {
        let mut found = vec![vec![0; self.classes]; self.classes];
        self.labels.iter().enumerate().for_each(|(photo, label)| found[*label][self.answer(photo)] += 1);
        found
    }

    /// Photos by their highest probability, in bins of equal width.
    pub fn calibration(&self) -> Vec<Bin> {
        let mut bins = vec![Bin::default(); BINS];
        for (photo, label) in self.labels.iter().enumerate() {
            let answer = self.answer(photo);
            let confidence = self.probabilities[photo].get(answer).copied().unwrap_or(0.0).clamp(0.0, 1.0);
            let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
            bin.photos += 1;
            bin.confidence += confidence;
            bin.accuracy += f64::from(u8::from(answer == *label));
        }
        for bin in bins.iter_mut().filter(|bin| bin.photos > 0) {
            bin.confidence /= bin.photos as f64;
            bin.accuracy /= bin.photos as f64;
        }
        bins
    }

    /// Expected calibration error (Naeini and others 2015): how far confidence and accuracy are apart, over the photos.
    pub fn calibration_error(&self) -> f64 {
        let apart = |bin: &Bin| bin.photos as f64 * (bin.confidence - bin.accuracy).abs();
        self.calibration().iter().map(apart).sum::<f64>() / self.len().max(1) as f64
    }

    /// Photos told wrong, the most confident error first.
    pub fn worst(&self) -> Vec<usize> {
        let mut wrong: Vec<usize> =
            (0..self.len()).filter(|photo| self.answer(*photo) != self.labels[*photo]).collect();
        let confidence = |photo: &usize| self.probabilities[*photo][self.answer(*photo)];
        wrong.sort_by(|a, b| confidence(b).total_cmp(&confidence(a)).then(a.cmp(b)));
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evaluation() -> Evaluation {
        let probabilities = [[0.7, 0.2, 0.1], [0.6, 0.3, 0.1], [0.1, 0.8, 0.1], [0.4, 0.4, 0.2], [0.2, 0.3, 0.5]];
        Evaluation::new(vec![0, 1, 1, 1, 2], probabilities.map(Vec::from).to_vec(), 3)
    }

    #[test]
    fn figures_are_counted() {
        let e = evaluation();
        assert_eq!([e.accuracy(1), e.accuracy(2), e.accuracy(3)], [0.6, 1.0, 1.0]);
        assert_eq!(e.confusion(), [[1, 0, 0], [2, 1, 0], [0, 0, 1]]);
        let classes = e.by_class();
        assert_eq!(classes[1], OfClass { photos: 3, right: 1, taken: 1 });
        assert_eq!([classes[0].recall(), classes[0].precision()], [Some(1.0), Some(1.0 / 3.0)]);
        assert_eq!([classes[0].f1(), classes[1].f1(), OfClass::default().f1()], [Some(0.5), Some(0.5), None]);
        assert_eq!(e.worst(), [1, 3]);
        let loss = -(0.7f64.ln() + 0.3f64.ln() + 0.8f64.ln() + 0.4f64.ln() + 0.5f64.ln()) / 5.0;
        assert!((e.loss() - loss).abs() < 1e-12);
    }

    #[test]
    fn calibration_compares_confidence_and_accuracy() {
        let e = evaluation();
        let expected = (0.3 + 0.6 + 0.2 + 0.4 + 0.5) / 5.0;
        assert!((e.calibration_error() - expected).abs() < 1e-12, "{}", e.calibration_error());
        assert_eq!(e.calibration().iter().map(|bin| bin.photos).sum::<usize>(), 5);
    }

    #[test]
    fn numbers_that_are_none_are_wrong_answers() {
        let e = Evaluation::new(vec![0, 1], vec![vec![f64::NAN, 0.1], vec![f64::NAN, f64::NAN]], 2);
        assert_eq!((e.accuracy(1), e.accuracy(2), e.answer(0)), (0.0, 0.0, 1));
        let none = Evaluation::new(Vec::new(), Vec::new(), 2);
        assert_eq!((none.accuracy(1), none.loss(), none.calibration_error()), (0.0, 0.0, 0.0));
    }
}
