//! Figures of a page, as SVG that takes its colours from the page's style.
//!
//! In: points. Out: `<svg>` elements as wide as the page lets them be. Points that are no numbers are left out.

use std::fmt::Write;

use super::page::escape;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 280.0;
/// Left, right, top, bottom.
const MARGINS: [f64; 4] = [52.0, 24.0, 44.0, 42.0];

/// A line.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: &'static str,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// A number on an axis.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// As it is.
    Number,
    /// A share, shown in percent.
    Share,
}

impl Unit {
    fn text(self, value: f64, step: f64) -> String {
        let (value, step) = if self == Self::Share { (100.0 * value, 100.0 * step) } else { (value, step) };
        let digits = (-step.log10().floor()).clamp(0.0, 6.0) as usize;
        let percent = if self == Self::Share { " %" } else { "" };
        format!("{value:.digits$}{percent}")
    }
}

/// A linear axis: values to positions.
#[derive(Clone, Copy)]
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis over the values whose ends are ticks, of which there are about `count`.
    fn over(values: impl Iterator<Item = f64>, count: f64, (from, to): (f64, f64)) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        values.filter(|value| value.is_finite()).for_each(|value| (low, high) = (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let span = (high - low).max(1e-9 * high.abs()).max(1e-6);
        let rough = span / count;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        let (low, high) = ((low / step + 1e-9).floor() * step, (high / step - 1e-9).ceil() * step);
        Self { low, high: high.max(low + step), step, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    fn ticks(&self) -> Vec<f64> {
        let count = ((self.high - self.low) / self.step).round() as usize;
        (0..=count.min(50)).map(|tick| self.low + tick as f64 * self.step).collect()
    }
}

/// A logarithmic axis.
struct Logarithmic {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Logarithmic {
    /// An axis over the values above 0, with room at both ends.
    fn over(values: impl Iterator<Item = f64>, (from, to): (f64, f64)) -> Self {
        let within = values.filter(|value| *value > 0.0 && value.is_finite());
        let (low, high) = within.fold((f64::INFINITY, 0.0f64), |(low, high), value| (low.min(value), high.max(value)));
        match low <= high {
            true => Self { low: low / 1.25, high: (high * 1.6).max(low * 1.6), from, to },
            false => Self { low: 1.0, high: 10.0, from, to },
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.from + (value / self.low).ln() / (self.high / self.low).ln() * (self.to - self.from)
    }

    /// Positions and texts of 1, 2 and 5 times the powers of ten.
    fn ticks(&self) -> Vec<(f64, String)> {
        let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
        let ticks = decades.flat_map(|power| [1.0, 2.0, 5.0].map(|digit| (digit * 10f64.powi(power), power)));
        ticks
            .filter(|(tick, _)| (self.low..=self.high).contains(tick))
            .map(|(tick, power)| (self.at(tick), format!("{tick:.*}", usize::try_from(-power).unwrap_or(0))))
            .collect()
    }
}

/// The part of a figure that points lie in, and what is drawn so far.
struct Figure {
    out: String,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Figure {
    fn new(title: &str, about: &str, [width, height]: [f64; 2]) -> Self {
        let [left, right, top, bottom] = MARGINS;
        let (about, title) = (escape(about), escape(title));
        let mut out = format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{about}\">\n");
        if !title.is_empty() {
            out += &format!("<text class=\"title\" x=\"{left}\" y=\"18\">{title}</text>\n");
        }
        Self { out, left, right: width - right, top, bottom: height - bottom }
    }

    fn add(&mut self, text: std::fmt::Arguments<'_>) {
        _ = self.out.write_fmt(text);
        self.out.push('\n');
    }

    fn text(&mut self, class: &str, (x, y): (f64, f64), anchor: &str, text: &str) {
        let text = escape(text);
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
        ));
    }

    /// Lines across, with numbers at the left.
    fn horizontal(&mut self, axis: &Axis, unit: Unit) {
        for tick in axis.ticks() {
            let (y, left, right) = (axis.at(tick), self.left, self.right);
            self.add(format_args!("<path class=\"grid\" d=\"M{left} {y:.1}H{right}\"/>"));
            self.text("", (left - 8.0, y + 4.0), "end", &unit.text(tick, axis.step));
        }
    }

    /// Numbers below, and what they are.
    fn below(&mut self, ticks: &[(f64, String)], name: &str) {
        let (bottom, right, left) = (self.bottom, self.right, self.left);
        for (x, text) in ticks {
            self.text("", (*x, bottom + 18.0), "middle", text);
        }
        self.text("", ((left + right) / 2.0, bottom + 36.0), "middle", name);
    }

    fn end(self) -> String {
        self.out + "</svg>"
    }
}

/// Lines over the same axis, the first solid blue and the second orange; the mark is a vertical line at an `x`, with a
/// word.
pub fn lines(title: &str, x_name: &str, unit: Unit, lines: &[Line], mark: Option<(f64, &str)>) -> String {
    let about =
        format!("{title}: {} over {x_name}", lines.iter().map(|line| line.name).collect::<Vec<_>>().join(" and "));
    let mut figure = Figure::new(title, &about, [WIDTH, HEIGHT]);
    let points = || lines.iter().flat_map(|line| &line.points);
    let y = Axis::over(points().map(|point| point.1), 5.0, (figure.bottom, figure.top));
    let (first, last) =
        points().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p.0), high.max(p.0)));
    let x =
        Axis { low: first, high: last.max(first + 1.0), step: 1.0, from: figure.left + 6.0, to: figure.right - 6.0 };
    figure.horizontal(&y, unit);
    let every = ((x.high - x.low) / 8.0).ceil().max(1.0) as usize;
    let numbers = (0..=(x.high - x.low) as usize).step_by(every).map(|number| x.low + number as f64);
    let ticks: Vec<(f64, String)> = numbers.filter(|n| *n <= last).map(|n| (x.at(n), format!("{n:.0}"))).collect();
    figure.below(&ticks, x_name);
    if let Some((at, word)) = mark {
        let (at, top, bottom) = (x.at(at), figure.top, figure.bottom);
        figure.add(format_args!("<path class=\"dash\" d=\"M{at:.1} {top}V{bottom}\"/>"));
        let (anchor, beside) = if at > (figure.left + figure.right) / 2.0 { ("end", -5.0) } else { ("start", 5.0) };
        figure.text("", (at + beside, top + 10.0), anchor, word);
    }
    let mut key = figure.right;
    for (line, class) in lines.iter().zip(["a", "b"]).rev() {
        let own: Vec<(f64, f64)> = line.points.iter().copied().filter(|p| p.1.is_finite()).collect();
        let path: Vec<String> = own.iter().map(|p| format!("{:.1} {:.1}", x.at(p.0), y.at(p.1))).collect();
        if let Some(end) = own.last() {
            figure.add(format_args!("<path class=\"{class}\" d=\"M{}\"/>", path.join("L")));
            let (cx, cy) = (x.at(end.0), y.at(end.1));
            figure.add(format_args!("<circle class=\"dot-{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"3.5\"/>"));
        }
        figure.text("name", (key, 18.0), "end", line.name);
        // Six and a half units a letter, at 12 units' height.
        key -= 6.5 * line.name.chars().count() as f64 + 8.0;
        figure.add(format_args!("<circle class=\"dot-{class}\" cx=\"{:.1}\" cy=\"14\" r=\"4\"/>", key));
        key -= 16.0;
    }
    figure.end()
}

/// A bin of a reliability diagram.
#[derive(Clone, Copy, Debug)]
pub struct Bin {
    /// How many photos.
    pub photos: usize,
    /// Mean of what they were given.
    pub confidence: f64,
    /// Share that was right.
    pub accuracy: f64,
}

/// How often photos of a confidence are told right: bars, in red what is missing to the diagonal, in pale blue what is
/// beyond it, and below how many photos there are.
pub fn reliability(bins: &[Bin]) -> String {
    let mut figure = Figure::new("Reliability", "share told right by confidence", [WIDTH, WIDTH - 60.0]);
    let (left, right, top) = (figure.left, figure.right, figure.top);
    figure.bottom -= 64.0;
    let bottom = figure.bottom;
    let y = Axis { low: 0.0, high: 1.0, step: 0.25, from: bottom, to: top };
    let x = Axis { low: 0.0, high: 1.0, step: 0.25, from: left, to: right };
    figure.horizontal(&y, Unit::Share);
    let most = bins.iter().map(|bin| bin.photos).max().unwrap_or(0).max(1) as f64;
    let floor = bottom + 64.0;
    for (at, bin) in bins.iter().enumerate().filter(|(_, bin)| bin.photos > 0) {
        let (from, to) = (x.at(at as f64 / bins.len() as f64) + 1.5, x.at((at + 1) as f64 / bins.len() as f64) - 1.5);
        let width = to - from;
        let (low, high) = (bin.accuracy.min(bin.confidence), bin.accuracy.max(bin.confidence));
        let mut bar = |class: &str, low: f64, high: f64, title: String| {
            let (top, height) = (y.at(high), y.at(low) - y.at(high));
            figure.add(format_args!(
                "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"><title>{}</title></rect>",
                escape(title)
            ));
        };
        let said = format!(
            "{} photos, confidence {:.1} %, right {:.1} %",
            bin.photos,
            100.0 * bin.confidence,
            100.0 * bin.accuracy
        );
        bar("bin", 0.0, low, said.clone());
        // Confidence that is not earned, or accuracy that it does not promise.
        bar(if bin.confidence > bin.accuracy { "gap" } else { "more" }, low, high, said);
        let height = (bin.photos as f64 / most * 40.0).max(1.0);
        figure.add(format_args!(
            "<rect class=\"bin\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"{height:.1}\"/>",
            floor - height
        ));
    }
    figure.add(format_args!("<path class=\"dash\" d=\"M{left} {bottom}L{right} {top}\"/>"));
    figure.add(format_args!("<path class=\"grid\" d=\"M{left} {floor}H{right}\"/>"));
    figure.text("", (left - 8.0, floor - 16.0), "end", "photos");
    figure.bottom = floor;
    let ticks: Vec<(f64, String)> =
        x.ticks().into_iter().map(|tick| (x.at(tick), Unit::Share.text(tick, 0.25))).collect();
    figure.below(&ticks, "confidence");
    figure.end()
}

/// A point of [`scatter`].
#[derive(Clone, Debug)]
pub struct Point {
    /// Position along the horizontal axis, above 0.
    pub x: f64,
    /// Share, along the vertical axis.
    pub y: f64,
    /// What is written next to it.
    pub label: String,
    /// What is said when it is pointed at.
    pub about: String,
    /// On the front: nothing else is better both ways.
    pub front: bool,
    /// The one that is recommended.
    pub chosen: bool,
}

/// Shares against a logarithmic axis; the front is a line, and a bound on `x` a dashed one.
pub fn scatter([x_name, y_name]: [&str; 2], points: &[Point], bound: Option<f64>) -> String {
    const WIDE: f64 = 800.0;
    let mut figure = Figure::new("", &format!("{y_name} against {x_name}"), [WIDE, 440.0]);
    figure.top -= 20.0;
    let (left, right, top, bottom) = (figure.left, figure.right, figure.top, figure.bottom);
    let y = Axis::over(points.iter().map(|point| point.y), 6.0, (bottom, top + 10.0));
    let scale = Logarithmic::over(points.iter().map(|point| point.x).chain(bound), (left, right));
    let x = |value: f64| scale.at(value);
    figure.horizontal(&y, Unit::Share);
    let ticks = scale.ticks();
    for (at, _) in &ticks {
        figure.add(format_args!("<path class=\"grid\" d=\"M{at:.1} {}V{bottom}\"/>", top + 10.0));
    }
    figure.below(&ticks, x_name);
    if let Some(bound) = bound {
        let at = x(bound);
        figure.add(format_args!("<path class=\"dash\" d=\"M{at:.1} {top}V{bottom}\"/>"));
        figure.text("", (at + 5.0, top + 6.0), "start", "limit");
    }
    let line = front(points, &x, &|value| y.at(value));
    if line.len() > 1 {
        let path: Vec<String> = line.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        figure.add(format_args!("<path class=\"a\" d=\"M{}\"/>", path.join("L")));
    }
    for point in points {
        let class = match (point.chosen, point.front) {
            (true, _) => "chosen",
            (_, true) => "front",
            _ => "hollow",
        };
        let (cx, cy, about) = (x(point.x), y.at(point.y), escape(&point.about));
        let r = if point.chosen { 8 } else { 6 };
        figure.add(format_args!(
            "<circle class=\"{class}\" cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"{r}\"><title>{about}</title></circle>"
        ));
    }
    let spots: Vec<(f64, f64)> = points.iter().map(|point| (x(point.x), y.at(point.y))).collect();
    let mut taken = boxes_along(&line);
    taken.extend(bound.map(|bound| [x(bound) - 1.0, x(bound) + 1.0, top, bottom]));
    for (point, (spot, anchor)) in points.iter().zip(labels(points, &spots, taken, [left, right, top, bottom])) {
        figure.text(if point.front { "name" } else { "" }, spot, anchor, &point.label);
    }
    figure.end()
}

/// The points of the front, from left to right.
fn front(points: &[Point], x: &dyn Fn(f64) -> f64, y: &dyn Fn(f64) -> f64) -> Vec<(f64, f64)> {
    let mut front: Vec<&Point> = points.iter().filter(|point| point.front).collect();
    front.sort_by(|a, b| a.x.total_cmp(&b.x));
    front.into_iter().map(|point| (x(point.x), y(point.y))).collect()
}

/// Small boxes all along a line, which no label may cover.
fn boxes_along(line: &[(f64, f64)]) -> Vec<[f64; 4]> {
    let between = |pair: &[(f64, f64)]| {
        let (a, b) = (pair[0], pair[1]);
        let parts = ((b.0 - a.0).abs() / 4.0).ceil().max(1.0) as usize;
        let at = move |part: usize| part as f64 / parts as f64;
        (0..=parts).map(move |part| (a.0 + at(part) * (b.0 - a.0), a.1 + at(part) * (b.1 - a.1)))
    };
    line.windows(2).flat_map(between).map(|(x, y)| [x - 1.0, x + 1.0, y - 2.0, y + 2.0]).collect()
}

/// Where each label goes: right of its point, left, above or below, wherever it covers no other label, no point, no
/// edge and nothing that is `taken`; else right. Boxes are left, right, top, bottom.
fn labels(
    points: &[Point],
    spots: &[(f64, f64)],
    mut taken: Vec<[f64; 4]>,
    [left, right, top, bottom]: [f64; 4],
) -> Vec<((f64, f64), &'static str)> {
    taken.extend(spots.iter().map(|(x, y)| [x - 7.0, x + 7.0, y - 7.0, y + 7.0]));
    let mut found = Vec::new();
    for (point, (x, y)) in points.iter().zip(spots) {
        let width = 6.8 * point.label.chars().count() as f64;
        let ways = [
            ((x + 12.0, y + 4.0), "start", x + 12.0),
            ((x - 12.0, y + 4.0), "end", x - 12.0 - width),
            ((*x, y - 12.0), "middle", x - width / 2.0),
            ((*x, y + 21.0), "middle", x - width / 2.0),
            ((x + 12.0, y - 10.0), "start", x + 12.0),
            ((x + 8.0, y + 21.0), "start", x + 8.0),
            ((x - 8.0, y - 12.0), "end", x - 8.0 - width),
            ((x - 8.0, y + 21.0), "end", x - 8.0 - width),
        ];
        let covers = |from: f64, base: f64| [from, from + width, base - 11.0, base + 3.0];
        let free = |way: &&((f64, f64), &'static str, f64)| {
            let own = covers(way.2, way.0.1);
            let inside = own[0] >= left && own[1] <= right + 8.0 && own[2] >= top - 8.0 && own[3] <= bottom;
            let apart =
                |other: &[f64; 4]| own[1] <= other[0] || other[1] <= own[0] || own[3] <= other[2] || other[3] <= own[2];
            inside && taken.iter().all(apart)
        };
        let (spot, anchor, from) = *ways.iter().find(free).unwrap_or(&ways[0]);
        taken.push(covers(from, spot.1));
        found.push((spot, anchor));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_lie_inside_and_numbers_are_round() {
        let line =
            |name, values: &[f64]| Line { name, points: (1..).map(f64::from).zip(values.iter().copied()).collect() };
        let both = [line("training", &[1.2, 0.7, 0.31]), line("validation", &[0.9, f64::NAN, 0.5])];
        let svg = lines("Loss", "epoch", Unit::Number, &both, Some((3.0, "best")));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        assert!(svg.contains(">0.2</text>") && svg.contains(">1.2</text>") && svg.contains(">best</text>"), "{svg}");
        for empty in [&[][..], &[line("x", &[])], &[line("x", &[0.5])]] {
            let svg = lines("t", "epoch", Unit::Share, empty, None);
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }

    #[test]
    fn bars_stand_for_bins() {
        let bin = |photos, confidence, accuracy| Bin { photos, confidence, accuracy };
        let svg = reliability(&[bin(0, 0.0, 0.0), bin(3, 0.7, 0.5), bin(9, 0.9, 1.0)]);
        let count = |class: &str| svg.matches(&format!("class=\"{class}\"")).count();
        assert_eq!(["bin", "gap", "more"].map(count), [4, 1, 1]);
        assert!(svg.contains("3 photos, confidence 70.0 %, right 50.0 %"));
    }

    #[test]
    fn points_of_the_front_are_joined_and_labels_apart() {
        let point = |x, y, label: &str, front| Point {
            x,
            y,
            label: label.into(),
            about: "<about>".into(),
            front,
            chosen: label == "b",
        };
        let points = [point(1.0, 0.8, "a", true), point(1.01, 0.8, "b", false), point(9.0, 0.9, "<c>", true)];
        let svg = scatter(["ms", "accuracy"], &points, Some(5.0));
        assert_eq!((svg.matches("<circle").count(), svg.matches("class=\"a\"").count()), (3, 1));
        assert!(svg.contains("&lt;c&gt;") && !svg.contains("<about>") && !svg.contains("NaN"), "{svg}");
        let spots = [(100.0, 100.0), (101.0, 100.0)];
        let placed = labels(&points[..2], &spots, Vec::new(), [0.0, 400.0, 0.0, 400.0]);
        assert_ne!(placed[0], placed[1]);
        let blocked = labels(&points[..1], &spots[..1], vec![[105.0, 130.0, 90.0, 110.0]], [0.0, 400.0, 0.0, 400.0]);
        assert_eq!(blocked[0].1, "end");
        assert!(!scatter(["x", "y"], &[], None).contains("NaN"));
    }
}
