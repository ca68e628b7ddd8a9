//! What a network is worth, as a page: how it was trained, what it confuses, how far its confidence can be trusted, and
//! the photos that it gets wrong.
//!
//! In: epochs, what the network says of photos, the photos themselves. Out: one HTML file of bounded size. Names and
//! paths are texts, whatever they hold.

use super::finetune::Epoch;
use super::metrics::{Evaluation, OfClass};
use super::photos::Photos;
use crate::images::Image;
use crate::report::page::{self, Align, Page, escape};
use crate::report::plot::{self, Line, Unit};

/// The most classes that a confusion matrix is drawn for.
const MATRIX: usize = 40;
/// The most pairs of classes that are listed.
const PAIRS: usize = 12;
/// The most photos that are shown, and pixels of their longer side.
const SHOWN: usize = 24;
const SIDE: usize = 192;
/// So many photos are shown where fewer are wrong: those told right with the least confidence.
const LEAST: usize = 6;

/// What a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Heading.
    pub title: &'a str,
    /// Names of the classes, in the order of the network's outputs.
    pub labels: &'a [String],
    /// The training, epoch by epoch; none of a network that was only looked at.
    pub epochs: &'a [Epoch],
    /// What the network says.
    pub evaluation: &'a Evaluation,
    /// Of these photos.
    pub photos: &'a Photos,
    /// What it was made with, by name.
    pub settings: &'a [(String, String)],
}

impl Report<'_> {
    /// The page.
    pub fn html(&self) -> String {
        let e = self.evaluation;
        let shown = self.labels.len();
        let mut page = Page::new(self.title, &format!("{} photos of {shown} classes", e.len()));
        page.tiles(&self.tiles());
        if !self.epochs.is_empty() {
            page.section("Training", "", &curves(self.epochs));
        }
        let rows = "A row is what photos show, a column what they are taken for.";
        if self.labels.len() <= MATRIX {
            page.section("Confusion", rows, &self.matrix());
        }
        let pairs = self.pairs();
        if !pairs.is_empty() {
            let columns = [("shows", Align::Left), ("taken for", Align::Left), ("photos", Align::Right)];
            page.section("Most confused", "", &page::table(&columns, &pairs));
        }
        page.section("Classes", "", &self.classes());
        let about = format!(
            "Photos by the probability of the answer. A network that knows how sure it may be stays on the diagonal; on average this one is {} off.",
            percent(e.calibration_error())
        );
        let bins: Vec<plot::Bin> = e.calibration().iter().map(bin).collect();
        let figure = format!("<figure style=\"max-width:32rem\">{}</figure>", plot::reliability(&bins));
        page.section("Calibration", &about, &figure);
        let (heading, about, photos) = self.worst();
        page.section(heading, &about, &photos);
        page.section("Made with", "", &page::pairs(self.settings));
        page.html()
    }

    fn tiles(&self) -> Vec<(String, &'static str, String)> {
        let e = self.evaluation;
        let wrong = e.worst().len();
        let mut tiles = vec![
            (percent(e.accuracy(1)), "accuracy", format!("{wrong} of {} wrong", e.len())),
            (format!("{:.3}", e.loss()), "cross-entropy", "0 is perfect".into()),
            (percent(e.calibration_error()), "calibration error", "how far confidence is off".into()),
        ];
        if self.labels.len() > 5 {
            tiles.insert(1, (percent(e.accuracy(5)), "top 5", "right among the five likeliest".into()));
        }
        let classes = e.by_class();
        let weakest = self.labels.iter().zip(&classes).filter_map(|(label, of)| Some((label, of.recall()?)));
        if let Some((label, recall)) = weakest.min_by(|a, b| a.1.total_cmp(&b.1)) {
            tiles.push((percent(recall), "weakest class", label.clone()));
        }
        if let (Some(last), false) = (self.epochs.last(), self.epochs.is_empty()) {
            let seconds: f64 = self.epochs.iter().map(|epoch| epoch.time.as_secs_f64()).sum();
            tiles.push((duration(seconds), "training", format!("{} epochs", last.number)));
        }
        tiles
    }

    fn matrix(&self) -> String {
        let head: String =
            self.labels.iter().map(|label| format!("<th scope=\"col\"><div>{}</div></th>", escape(label))).collect();
        let mut out =
            format!("<div class=\"wide\"><table class=\"matrix\">\n<thead><tr><th></th>{head}</tr></thead>\n<tbody>\n");
        for ((class, row), label) in self.evaluation.confusion().iter().enumerate().zip(self.labels) {
            let all = row.iter().sum::<usize>().max(1) as f64;
            let cell = |(other, count): (usize, &usize)| {
                let told = self.labels.get(other).map_or("", String::as_str);
                let about = escape(format!("{label} taken for {told}: {count}"));
                let class = match (*count, other == class) {
                    (0, _) => "",
                    (_, true) => "right",
                    (_, false) => "wrong",
                };
                let strength = 0.15 + 0.65 * (*count as f64 / all);
                let shown = if *count == 0 { "·".to_string() } else { count.to_string() };
                format!("<td class=\"{class}\" style=\"--s:{strength:.2}\" title=\"{about}\">{shown}</td>")
            };
            let cells: String = row.iter().enumerate().map(cell).collect();
            out += &format!("<tr><th scope=\"row\" title=\"{0}\">{0}</th>{cells}</tr>\n", escape(label));
        }
        out + "</tbody>\n</table></div>"
    }

    /// The pairs of classes that are confused most, the first of them where there is no matrix or it is large.
    fn pairs(&self) -> Vec<Vec<String>> {
        let confusion = self.evaluation.confusion();
        let mut pairs: Vec<(usize, usize, usize)> = Vec::new();
        for (class, row) in confusion.iter().enumerate() {
            let others = row.iter().enumerate().filter(|(other, count)| *other != class && **count > 0);
            pairs.extend(others.map(|(other, count)| (*count, class, other)));
        }
        pairs.sort_by_key(|(count, class, other)| (std::cmp::Reverse(*count), *class, *other));
        let name = |class: usize| self.labels.get(class).map(escape).unwrap_or_default();
        let row = |(count, class, other): &(usize, usize, usize)| vec![name(*class), name(*other), count.to_string()];
        pairs.iter().take(PAIRS).map(row).collect()
    }

    fn classes(&self) -> String {
        let columns = [
            ("class", Align::Left),
            ("photos", Align::Right),
            ("precision", Align::Right),
            ("recall", Align::Right),
            ("F1", Align::Right),
        ];
        let figures = self.evaluation.by_class();
        let seen = self.labels.iter().zip(&figures).filter(|(_, of)| of.photos > 0 || of.taken > 0);
        let row = |label: String, of: &OfClass| {
            let [precision, recall, f1] = [of.precision(), of.recall(), of.f1()].map(page::share);
            vec![label, of.photos.to_string(), precision, recall, f1]
        };
        let rows: Vec<Vec<String>> = seen.map(|(label, of)| row(escape(label), of)).collect();
        page::table(&columns, &rows)
    }

    /// The photos told wrong, the most confident first, and after a few of them those that are told right and hardly
    /// so.
    fn worst(&self) -> (&'static str, String, String) {
        let e = self.evaluation;
        let wrong = e.worst();
        let confidence = |photo: &usize| e.probabilities()[*photo].get(e.answer(*photo)).copied().unwrap_or(0.0);
        let mut right: Vec<usize> = (0..e.len()).filter(|photo| e.answer(*photo) == e.labels()[*photo]).collect();
        right.sort_by(|a, b| confidence(a).total_cmp(&confidence(b)).then(a.cmp(b)));
        let more = LEAST.saturating_sub(wrong.len());
        let shown: Vec<usize> = wrong.iter().take(SHOWN).chain(right.iter().take(more)).copied().collect();
        let photos: String = shown.iter().map(|photo| self.photo(*photo, confidence(photo))).collect();
        let about = match wrong.len() {
            0 => "No photo is told wrong; these are told right with the least confidence.".to_string(),
            all if all > SHOWN => format!("The {SHOWN} most confident errors of {all}."),
            all if more > 0 => format!("{all} told wrong; then those told right with the least confidence."),
            all => format!("All {all} photos that are told wrong, the most confident first."),
        };
        ("Worst photos", about, format!("<div class=\"photos\">\n{photos}</div>"))
    }

    fn photo(&self, at: usize, confidence: f64) -> String {
        let Some(photo) = self.photos.photos().get(at) else { return String::new() };
        let e = self.evaluation;
        let (truth, answer) = (e.labels()[at], e.answer(at));
        let name = |class: usize| self.labels.get(class).map_or("", String::as_str);
        let thumbnail = Image::open(&photo.path).and_then(|image| image.thumbnail(SIDE));
        let image = match thumbnail {
            Ok(bytes) => {
                format!("<img alt=\"{}\" src=\"{}\">", escape(name(truth)), page::data_uri("image/jpeg", &bytes))
            }
            Err(_) => String::new(),
        };
        let said = if truth == answer {
            format!("<b>{}</b>{} sure", escape(name(truth)), percent(confidence))
        } else {
            format!(
                "<b>{}</b><em>taken for {}</em>{} sure",
                escape(name(truth)),
                escape(name(answer)),
                percent(confidence)
            )
        };
        let path = photo.path.display().to_string();
        let file = photo.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        format!(
            "<figure title=\"{}\">{image}<figcaption>{said}<br>{}</figcaption></figure>\n",
            escape(path),
            escape(file)
        )
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

fn bin(bin: &super::metrics::Bin) -> plot::Bin {
    plot::Bin { photos: bin.photos, confidence: bin.confidence, accuracy: bin.accuracy }
}

/// Loss and accuracy over the epochs.
fn curves(epochs: &[Epoch]) -> String {
    let line = |name, value: fn(&Epoch) -> f64| Line {
        name,
        points: epochs.iter().map(|epoch| (epoch.number as f64, value(epoch))).collect(),
    };
    let best = epochs.iter().min_by(|a, b| a.val_loss.total_cmp(&b.val_loss));
    let mark = best.map(|epoch| (epoch.number as f64, "lowest loss"));
    let loss = [line("training", |epoch| epoch.loss), line("validation", |epoch| epoch.val_loss)];
    let accuracy = [line("training", |epoch| epoch.accuracy), line("validation", |epoch| epoch.val_accuracy)];
    format!(
        "<div class=\"charts\">\n<figure>{}</figure>\n<figure>{}</figure>\n</div>",
        plot::lines("Loss", "epoch", Unit::Number, &loss, mark),
        plot::lines("Accuracy", "epoch", Unit::Share, &accuracy, None)
    )
}

#[cfg(test)]
mod tests {
    use super::super::dataset::Photo;
    use super::super::photos::BadImages;
    use super::*;
    use crate::facade::Model;
    use std::time::Duration;

    /// Photos of two classes with names that want to be markup, one of them told wrong.
    fn html(classes: usize, epochs: &[Epoch]) -> String {
        let photo =
            |class: usize| Photo { path: format!("examples/photos/{}.jpg", ["stop", "yield"][class]).into(), class };
        let preprocess = Model::open("examples/signs.onnx").unwrap().preprocess().unwrap().unwrap();
        let photos =
            Photos::load(vec![photo(0), photo(1), photo(1)], &preprocess, BadImages::Refuse, 1 << 20, 1).unwrap();
        let mut labels: Vec<String> = (0..classes).map(|class| format!("class {class}")).collect();
        (labels[0], labels[1]) = ("<b>stop</b>".into(), "\"yield\" & more".into());
        let given = |first: f64, second: f64| {
            let mut p = vec![0.0; classes];
            (p[0], p[1]) = (first, second);
            p
        };
        let said = vec![given(0.9, 0.1), given(0.7, 0.3), given(0.2, 0.8)];
        let evaluation = Evaluation::new(vec![0, 1, 1], said, classes);
        let settings = [("--lr".to_string(), "<1e-3>".to_string())];
        let (title, labels, settings) = ("run of <signs>", &labels[..], &settings[..]);
        Report { title, labels, epochs, evaluation: &evaluation, photos: &photos, settings }.html()
    }

    #[test]
    fn a_report_shows_everything_and_trusts_no_name() {
        let epoch = |number: usize| Epoch {
            number,
            loss: 1.0 / number as f64,
            accuracy: 0.5,
            val_loss: 0.7,
            val_accuracy: 0.6,
            lr: 1e-3,
            time: Duration::from_millis(1500),
        };
        let page = html(2, &[epoch(1), epoch(2)]);
        for heading in ["Training", "Confusion", "Most confused", "Classes", "Calibration", "Worst photos", "Made with"]
        {
            assert!(page.contains(&format!("<h2>{heading}</h2>")), "{heading}");
        }
        for raw in ["<b>stop", "\"yield\" &", "<signs>", "<1e-3>", "<script", "http:", "https:"] {
            assert!(!page.contains(raw), "{raw}");
        }
        assert!(page.contains("66.7 %") && page.contains("1 of 3 wrong") && page.contains("3.0 s"));
        assert!(page.contains("taken for &lt;b&gt;stop&lt;/b&gt;</em>70.0 % sure"));
        assert_eq!(page.matches("src=\"data:image/jpeg;base64,").count(), 3);
        assert_eq!(page.matches("<svg").count(), 3);
    }

    #[test]
    fn many_classes_are_listed_and_not_drawn() {
        let page = html(MATRIX + 1, &[]);
        assert!(!page.contains("class=\"matrix\"") && page.contains("Most confused") && page.contains("top 5"));
        assert!(!page.contains("<h2>Training</h2>"));
        assert!(!page.contains("class 7"), "classes without photos are left out");
    }
}
