//! A chart of points on two logarithmic axes, as SVG.

use std::fmt::Write;

/// A point.
#[derive(Clone, Debug)]
pub struct Point {
    /// Position along the horizontal axis, above 0.
    pub x: f64,
    /// Position along the vertical axis, above 0.
    pub y: f64,
    /// What is written next to it.
    pub label: String,
    /// Drawn full, others hollow.
    pub best: bool,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 480.0;
const MARGIN: f64 = 64.0;

/// One axis: values to positions.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Self {
        let low = values.clone().fold(f64::INFINITY, f64::min) / 1.3;
        let high = values.fold(0.0, f64::max) * 1.3;
        Self { low, high: high.max(low * 2.0), from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// 1, 2 and 5 times the powers of ten between the ends.
    fn ticks(&self) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let decades = (first..=last).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10f64.powi(power)));
        decades.filter(|tick| (self.low..=self.high).contains(tick)).collect()
    }
}

/// The chart; nothing but axes without points.
pub fn svg(title: &str, x_unit: &str, y_unit: &str, points: &[Point]) -> String {
    let x = Axis::new(points.iter().map(|point| point.x), MARGIN, WIDTH - MARGIN);
    let y = Axis::new(points.iter().map(|point| point.y), HEIGHT - MARGIN, MARGIN);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n\
         <text x=\"{MARGIN}\" y=\"32\" font-size=\"16\">{}</text>\n",
        escape(title)
    );
    if points.is_empty() {
        return out + "</svg>\n";
    }
    let (left, right, top, bottom) = (MARGIN, WIDTH - MARGIN, MARGIN, HEIGHT - MARGIN);
    let mut line = |text: std::fmt::Arguments<'_>| _ = out.write_fmt(text);
    for tick in x.ticks() {
        let at = x.at(tick);
        line(format_args!("<path d=\"M{at:.1} {top}V{bottom}\" stroke=\"#ddd\"/>\n"));
        line(format_args!("<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{tick}</text>\n", bottom + 18.0));
    }
    for tick in y.ticks() {
        let at = y.at(tick);
        line(format_args!("<path d=\"M{left} {at:.1}H{right}\" stroke=\"#ddd\"/>\n"));
        line(format_args!("<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>\n", left - 6.0, at + 4.0));
    }
    line(format_args!(
        "<text x=\"{right}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
        bottom + 40.0,
        escape(x_unit)
    ));
    line(format_args!("<text x=\"{left}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n", top - 10.0, escape(y_unit)));
    let path: Vec<String> = points.iter().map(|p| format!("{:.1} {:.1}", x.at(p.x), y.at(p.y))).collect();
    line(format_args!("<path d=\"M{}\" fill=\"none\" stroke=\"#c60\" stroke-width=\"1.5\"/>\n", path.join("L")));
    for point in points {
        let (cx, cy, fill) = (x.at(point.x), y.at(point.y), if point.best { "#c60" } else { "#fff" });
        line(format_args!("<circle cx=\"{cx:.1}\" cy=\"{cy:.1}\" r=\"4\" fill=\"{fill}\" stroke=\"#c60\"/>\n"));
        line(format_args!("<text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n", cx + 8.0, cy + 12.0, escape(&point.label)));
    }
    out + "</svg>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_lie_inside() {
        let point = |x, y| Point { x, y, label: "a<b".into(), best: true };
        let chart = svg("t", "GMACs", "ms", &[point(0.4, 8.0), point(38.0, 600.0)]);
        assert_eq!(chart.matches("<circle").count(), 2);
        assert!(chart.contains("a&lt;b") && chart.contains(">500</text>") && !chart.contains("NaN"));
        assert!(!svg("t", "x", "y", &[]).contains("NaN"));
    }
}
