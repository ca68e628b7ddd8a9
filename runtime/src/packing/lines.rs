//! Weights from rows per output to lines per input, in blocks that stay in the nearest cache.

/// Inputs of a block: one cache line of every row.
const BLOCK: usize = 16;

/// Writes element `d` of row `n` to element `n` of the line for `d`. `rows` holds rows of `channels * taps` elements, at
/// most `W` of them; lines have `width` elements, at least as many as there are rows and at most `W`, of which those
/// beyond the rows become 0. `d` counts taps before channels; lines count channels before taps.
pub fn lines<T: Copy + Default, const W: usize>(
    rows: &[T],
    [channels, taps]: [usize; 2],
    width: usize,
    lines: &mut [T],
) {
    let depth = channels * taps;
    if depth == 0 || width == 0 {
        return;
    }
    let mut block = [[T::default(); BLOCK]; W];
    if width == W && taps == 1 {
        // In step with the lines, without a place to compute for each.
        let (lines, _) = lines.as_chunks_mut::<W>();
        for (begin, lines) in (0..depth).step_by(BLOCK).zip(lines.chunks_mut(BLOCK)) {
            gather(rows, depth, begin, &mut block);
            for (d, line) in lines.iter_mut().enumerate() {
                *line = std::array::from_fn(|n| block[n][d % BLOCK]);
            }
        }
        return;
    }
    let (mut channel, mut tap) = (0, 0);
    for begin in (0..depth).step_by(BLOCK) {
        gather(rows, depth, begin, &mut block);
        for d in 0..BLOCK.min(depth - begin) {
            let line = &mut lines[(tap * channels + channel) * width..][..width];
            line.iter_mut().zip(&block).for_each(|(to, row)| *to = row[d]);
            tap += 1;
            if tap == taps {
                (tap, channel) = (0, channel + 1);
            }
        }
    }
}

/// The elements from `begin` on of each row, as far as the row and the block go.
fn gather<T: Copy, const W: usize>(rows: &[T], depth: usize, begin: usize, block: &mut [[T; BLOCK]; W]) {
    for (to, row) in block.iter_mut().zip(rows.chunks_exact(depth)) {
        let row = &row[begin..];
        match row.first_chunk::<BLOCK>() {
            Some(row) => *to = *row,
            None => to[..row.len()].copy_from_slice(row),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn every_element_finds_its_line() {
        for (rows, channels, taps, width) in
            [(16, 40, 1, 16), (5, 17, 1, 8), (3, 3, 9, 8), (16, 7, 25, 16), (1, 1, 1, 1)]
        {
            let depth = channels * taps;
            let from: Vec<u32> = (1..=(rows * depth) as u32).collect();
            let mut to = vec![0; depth * width];
            lines::<u32, 16>(&from, [channels, taps], width, &mut to);
            for (line, found) in to.chunks_exact(width).enumerate() {
                let d = line % channels * taps + line / channels;
                let expected = (0..width).map(|n| if n < rows { from[n * depth + d] } else { 0 });
                assert!(found.iter().copied().eq(expected), "{rows} rows of {channels} x {taps}, line {line}");
            }
        }
    }

    #[test]
    fn nothing_is_written_for_nothing() {
        lines::<u32, 16>(&[], [0, 9], 16, &mut []);
        lines::<u32, 16>(&[], [4, 1], 0, &mut []);
    }
}
