//! The known word that a mistyped one stands for.
//!
//! In: a word and the known ones. Out: those within a few edits of it, the nearest first.

/// Known words at most a third of `word`'s length (and at least two edits) away, the nearest first.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let limit = (word.chars().count() / 3).max(2);
    let mut close: Vec<(usize, &str)> = known
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .collect();
    close.sort();
    close.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Levenshtein distance; two neighbours swapped count as two edits.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_comes_first() {
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(nearest("widht", ["depth", "width", "resolution"]), ["width"]);
        assert!(nearest("frobnicate", ["depth", "width"]).is_empty());
    }
}
