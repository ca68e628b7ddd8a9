//! A page of HTML that needs nothing but itself: text, tables, figures, light or dark as the reader has it.
//!
//! In: sections, as HTML made here or in [`super::plot`]. Out: one file without scripts and without references to
//! others. Whatever comes from outside goes through [`escape`].

use std::fmt::{Display, Write};
use std::time::{SystemTime, UNIX_EPOCH};

/// What every page looks like. Colours: two series that differ in light and for the colour-blind, and a red for what is
/// wrong.
const STYLE: &str = include_str!("page.css");

/// A page under construction.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    subtitle: String,
    body: String,
}

impl Page {
    /// An empty page; the subtitle ends in the date and the machine.
    pub fn new(title: &str, subtitle: &str) -> Self {
        let separator = if subtitle.is_empty() { "" } else { " · " };
        let machine = machine();
        let subtitle = format!("{}{separator}{} · {}", escape(subtitle), now(), escape(&machine));
        Self { title: escape(title), subtitle, body: String::new() }
    }

    /// Adds figures that are read at a glance: value, what it is, and a line more.
    pub fn tiles(&mut self, tiles: &[(String, &str, String)]) {
        self.body.push_str("<div class=\"tiles\">\n");
        for (value, what, more) in tiles {
            let (value, what, more) = (escape(value), escape(what), escape(more));
            _ = writeln!(self.body, "<div class=\"tile\"><b>{value}</b><span>{what}</span><small>{more}</small></div>");
        }
        self.body.push_str("</div>\n");
    }

    /// Adds a section of HTML under a heading, with a line of explanation.
    pub fn section(&mut self, heading: &str, about: &str, html: &str) {
        let (heading, about) = (escape(heading), escape(about));
        let about = if about.is_empty() { String::new() } else { format!("<p class=\"about\">{about}</p>\n") };
        _ = writeln!(self.body, "<section>\n<h2>{heading}</h2>\n{about}{html}\n</section>");
    }

    /// The file.
    pub fn html(&self) -> String {
        let Self { title, subtitle, body } = self;
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n\
             <body>\n<header>\n<h1>{title}</h1>\n<p>{subtitle}</p>\n</header>\n<main>\n{body}</main>\n</body>\n</html>\n"
        )
    }
}

/// A text as HTML, in elements and in quoted attributes. Characters that HTML has no place for become their escapes.
pub fn escape(text: impl Display) -> String {
    let mut out = String::new();
    for c in text.to_string().chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out
}

/// How a column stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// A table that scrolls sideways where there is no room. Cells are HTML.
pub fn table(columns: &[(&str, Align)], rows: &[Vec<String>]) -> String {
    let class = |at: usize| match columns.get(at) {
        Some((_, Align::Right)) => " class=\"n\"",
        _ => "",
    };
    let head: String =
        columns.iter().enumerate().map(|(at, (name, _))| format!("<th{}>{}</th>", class(at), escape(name))).collect();
    let mut out = format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n");
    for row in rows {
        let cells: String = row.iter().enumerate().map(|(at, cell)| format!("<td{}>{cell}</td>", class(at))).collect();
        _ = writeln!(out, "<tr>{cells}</tr>");
    }
    out + "</tbody>\n</table></div>"
}

/// A share as a cell: percent with a bar behind it; a dash for none.
pub fn share(share: Option<f64>) -> String {
    let Some(share) = share else { return "<span class=\"none\">–</span>".into() };
    let percent = 100.0 * share.clamp(0.0, 1.0);
    format!("<span class=\"bar\" style=\"--w:{percent:.1}%\">{percent:.1} %</span>")
}

/// Names and values, as a list.
pub fn pairs(pairs: &[(String, String)]) -> String {
    let pair =
        |(name, value): &(String, String)| format!("<div><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value));
    format!("<dl>\n{}</dl>", pairs.iter().map(pair).collect::<String>())
}

/// Bytes as the source of an image.
pub fn data_uri(kind: &str, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = format!("data:{kind};base64,");
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let shown = digit <= chunk.len();
            let digit = DIGITS[(word >> (18 - 6 * digit) & 63) as usize];
            out.push(if shown { char::from(digit) } else { '=' });
        }
    }
    out
}

/// The processor, and how many threads the machine gives this process.
pub fn machine() -> String {
    let threads = fornax_runtime::available_threads();
    format!("{}, {threads} thread{}", fornax_runtime::model_name(), if threads == 1 { "" } else { "s" })
}

/// Date and time, UTC.
pub fn now() -> String {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (year, month, day) = date(seconds / 86_400);
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", seconds / 3600 % 24, seconds / 60 % 60)
}

/// Year, month and day of the days since 1970 (Hinnant, *chrono-compatible low-level date algorithms*,
/// `civil_from_days`).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + 400 * era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_outside_are_no_markup() {
        let mut page = Page::new("<q>&", "a\"b");
        page.section("<i>", "x < y", &table(&[("<u>", Align::Left)], &[vec![escape("'<script>\n")]]));
        page.tiles(&[("<1>".into(), "<2>", "<3>".into())]);
        let html = page.html();
        for raw in ["<q>&", "<i>", "<u>", "<script", "<1>", "<2>", "<3>", "a\"b"] {
            assert!(!html.contains(raw), "{raw}");
        }
        assert!(html.contains("&lt;q&gt;&amp;") && html.contains("&#39;&lt;script&gt;\\n"), "{html}");
        for word in ["src=", "href=", "url(", "@import", "<script", "http"] {
            assert!(!html.contains(word), "the page is whole without {word}");
        }
    }

    #[test]
    fn bytes_are_written_in_base_64() {
        for (bytes, text) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(data_uri("image/jpeg", bytes.as_bytes()), format!("data:image/jpeg;base64,{text}"));
        }
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(
            [0, 59, 11_016, 11_017, 20_787].map(date),
            [(1970, 1, 1), (1970, 3, 1), (2000, 2, 29), (2000, 3, 1), (2026, 11, 30)]
        );
        assert!(now().ends_with(" UTC") && now().as_str() > "2026");
    }
}
