//! What `choose` found, as a page.

use fornax::report::page::{self, Align, Page, escape};
use fornax::report::plot::{Point, scatter};

use super::{Args, Row};
use crate::measured::threads;

/// The page.
pub(super) fn html(args: &Args, rows: &[Row], classes: &[String], photos: usize, chosen: Option<&str>) -> String {
    let on = threads(args.read.threads());
    let mut page = Page::new("Which network", &format!("{photos} photos of {} classes, {on}", classes.len()));
    let named = |row: &Row| row.network.label.clone();
    let best = rows.iter().filter(|row| row.front).max_by(|a, b| a.accuracy.total_cmp(&b.accuracy));
    let fastest = rows.iter().min_by(|a, b| a.latency_ms.total_cmp(&b.latency_ms));
    let mut tiles = Vec::new();
    tiles.extend(best.map(|row| (format!("{:.1} %", 100.0 * row.accuracy), "most accurate", named(row))));
    tiles.extend(fastest.map(|row| (format!("{:.2} ms", row.latency_ms), "fastest", named(row))));
    if let (Some(limit), Some(row)) = (args.latency, rows.iter().find(|row| row.chosen)) {
        let more = format!("{}, {:.2} ms of {limit} ms", named(row), row.latency_ms);
        tiles.push((format!("{:.1} %", 100.0 * row.accuracy), "to fine-tune", more));
    }
    page.tiles(&tiles);
    let points: Vec<Point> = rows.iter().map(point).collect();
    let figure = scatter([&format!("milliseconds an image, {on}"), "accuracy, held out"], &points, args.latency);
    let about = "Accuracy of a linear classifier over the network's features, on photos that were held out; latency measured on this machine. \
                 Full points are the front: no other network is as accurate in as little time.";
    page.section("Accuracy against latency", about, &format!("<figure>{figure}</figure>"));
    page.section("Networks", "", &table(rows));
    if let Some(command) = chosen {
        page.section("Fine-tune it", "", &format!("<pre><code>{}</code></pre>", escape(command)));
    }
    let settings = [
        ("photos".to_string(), args.photos.display().to_string()),
        ("classes".to_string(), classes.join(", ")),
        ("threads".to_string(), args.read.threads().to_string()),
        ("seconds a measurement".to_string(), args.seconds.to_string()),
    ];
    page.section("Made with", "", &page::pairs(&settings));
    page.html()
}

fn point(row: &Row) -> Point {
    let label = row.network.label.clone();
    let about = format!("{label}: {:.1} %, {:.2} ms", 100.0 * row.accuracy, row.latency_ms);
    Point { x: row.latency_ms, y: row.accuracy, label, about, front: row.front, chosen: row.chosen }
}

fn table(rows: &[Row]) -> String {
    let columns = [
        ("network", Align::Left),
        ("side", Align::Right),
        ("features", Align::Right),
        ("accuracy, held out", Align::Right),
        ("latency", Align::Right),
        ("", Align::Left),
    ];
    let row = |row: &Row| {
        let said = match (row.chosen, row.front) {
            (true, _) => "to fine-tune",
            (_, true) => "front",
            _ => "",
        };
        vec![
            escape(&row.network.label),
            row.side.to_string(),
            row.features.to_string(),
            page::share(Some(row.accuracy)),
            format!("{:.2} ms", row.latency_ms),
            said.to_string(),
        ]
    };
    page::table(&columns, &rows.iter().map(row).collect::<Vec<_>>())
}
