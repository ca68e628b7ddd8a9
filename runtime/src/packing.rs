//! How tensors lie in memory, as data, and the one function that writes them so.
//!
//! In: the elements of a tensor, row-major, as unaligned little-endian bytes. Out: the same elements in the order that kernels read them
//! ([`Packing::pack`]), and back ([`Packing::unpack`]). A [`Packing`] is a plain value: it can be compared, hashed, printed and read back, so
//! that equal packings are known to be equal, wherever they were asked for.
//!
//! ```text
//! [1,32,3,9] aBdc16b                the tensor as axes a, b, c, d of these extents; then outer to inner: a, blocks of b, d, c, 16 of b
//! [32,9] Ab48a                      one block of 48 for 32 elements: what a block has beyond its axis is zero
//! [64,64,9] winograd 4x4 Acb16:8a   taps transformed first; the last block of 16 is stored in steps of 8
//! [256,128] times 0.5 Ba16b         every element times a factor
//! ```
//!
//! A letter names an axis, as in the format tags of oneDNN: a capital counts blocks of its axis, a number with a letter is a block. So a
//! channel-last map is `acb`, and pairs of inputs for dot products are `AB16a2b`.

mod lines;
pub mod winograd;

use std::fmt::{self, Write};
use std::str::FromStr;

use lines::lines;
use winograd::Tile;

/// Consecutive elements of one axis that lie together.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Block {
    axis: usize,
    size: usize,
    /// The last block holds a multiple of `step` elements; all others, and it too if this is `size`, hold `size`.
    step: usize,
}

/// Order of a tensor's elements in memory: axes from the outermost to the innermost, then blocks of axes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Layout {
    order: Vec<usize>,
    blocks: Vec<Block>,
}

/// What happens to the elements before they are put in order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Transform {
    /// Nothing.
    None,
    /// `f32` elements are multiplied by a factor, given by its bits; see [`Transform::scale`].
    Scale(u32),
    /// The 9 taps of the last axis become the positions of a Winograd filter, computed in `f64` and rounded once.
    Winograd(Tile),
}

/// A transform and a layout for a tensor seen under some extents.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Packing {
    extents: Vec<usize>,
    transform: Transform,
    layout: Layout,
}

impl Transform {
    /// The product with `factor`, which is nothing for 1.
    pub fn scale(factor: f32) -> Self {
        if factor == 1.0 { Self::None } else { Self::Scale(factor.to_bits()) }
    }
}

impl Layout {
    /// Axes in `order`, from the outermost: a permutation of `0..rank`.
    pub fn new(order: impl IntoIterator<Item = usize>) -> Self {
        let order: Vec<usize> = order.into_iter().collect();
        debug_assert!(is_permutation(&order), "{order:?} names every axis once");
        Self { order, blocks: Vec::new() }
    }

    /// The order of the axes themselves.
    pub fn row_major(rank: usize) -> Self {
        Self::new(0..rank)
    }

    /// Axis 0, then axes 2 and up, then axis 1.
    pub fn channels_last(rank: usize) -> Self {
        if rank < 3 { Self::row_major(rank) } else { Self::new([0].into_iter().chain(2..rank).chain([1])) }
    }

    /// With blocks of `size` elements of `axis` within all that there is so far. The last one is filled up with zeros.
    pub fn block(self, axis: usize, size: usize) -> Self {
        self.ragged(axis, size, size)
    }

    /// [`Self::block`] whose last block is filled up to a multiple of `step` only. It is the only block of its axis.
    pub fn ragged(mut self, axis: usize, size: usize, step: usize) -> Self {
        let (size, step) = (size.max(1), step.max(1));
        debug_assert!(axis < self.order.len() && size.is_multiple_of(step));
        self.blocks.push(Block { axis, size, step });
        self
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.order.len()
    }

    /// Axes from the outermost to the innermost; those with blocks count blocks.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// Blocks within the axes, from the outermost to the innermost: axis and elements. `None` if the last block of an axis is shorter.
    pub fn blocks(&self) -> Option<Vec<(usize, usize)>> {
        self.blocks.iter().map(|b| (b.step == b.size).then_some((b.axis, b.size))).collect()
    }

    /// Whether elements keep their row-major order, and nothing comes between them.
    fn is_plain(&self) -> bool {
        self.blocks.is_empty() && self.order.iter().enumerate().all(|(i, axis)| i == *axis)
    }

    /// Elements of all blocks of `axis` that lie within one step of it.
    fn within(&self, axis: usize) -> usize {
        self.blocks.iter().filter(|block| block.axis == axis).map(|block| block.size).product()
    }

    /// Elements that are stored of `axis`, of which `extent` are the tensor's.
    fn stored(&self, axis: usize, extent: usize) -> usize {
        let ragged = self.blocks.iter().find(|block| block.axis == axis && block.step != block.size);
        extent.next_multiple_of(ragged.map_or_else(|| self.within(axis), |block| block.step))
    }

    /// Where the elements of each axis lie: an element's place is the sum of its places along the axes. Of a ragged axis these are
    /// either the full blocks or, from the first element beyond them on, the last.
    fn places(&self, extents: &[usize], last: bool) -> Vec<Vec<usize>> {
        let mut places: Vec<Vec<usize>> = extents.iter().map(|extent| vec![0; *extent]).collect();
        // Elements of an axis that lie within the loop at hand, and elements of memory that it spans.
        let (mut inner, mut span) = (vec![1usize; extents.len()], 1usize);
        for block in self.blocks.iter().rev() {
            let beyond = extents[block.axis] % block.size;
            let size = if block.step != block.size && last { beyond.next_multiple_of(block.step) } else { block.size };
            let unit = inner[block.axis];
            for (i, place) in places[block.axis].iter_mut().enumerate() {
                *place += i / unit % block.size * span;
            }
            inner[block.axis] *= block.size;
            span *= size;
        }
        for axis in self.order.iter().rev() {
            let (extent, unit) = (extents[*axis], inner[*axis]);
            let stored = self.stored(*axis, extent);
            let ragged = self.blocks.iter().find(|block| block.axis == *axis && block.step != block.size);
            // Full blocks before the last one are larger than it.
            let step = match ragged {
                Some(block) if last => span / (extent % block.size).next_multiple_of(block.step).max(1) * block.size,
                _ => span,
            };
            places[*axis].iter_mut().enumerate().for_each(|(i, place)| *place += i / unit * step);
            span = match ragged {
                Some(_) => step / unit * stored,
                None => span * (stored / unit.max(1)),
            };
        }
        places
    }
}

fn is_permutation(order: &[usize]) -> bool {
    (0..order.len()).all(|axis| order.contains(&axis))
}

impl Packing {
    /// `layout` of what `transform` makes of a row-major tensor, whose axes are split or joined into `extents`. A tensor of one element stands for
    /// as many as they ask for.
    pub fn new(extents: impl Into<Vec<usize>>, transform: Transform, layout: Layout) -> Self {
        let extents = extents.into();
        debug_assert!(extents.len() == layout.rank() && Self::takes(&extents, transform));
        Self { extents, transform, layout }
    }

    /// `count` elements as they are.
    pub fn plain(count: usize) -> Self {
        Self::new([count], Transform::None, Layout::row_major(1))
    }

    /// `count` elements and zeros up to `len`.
    pub fn padded(count: usize, len: usize) -> Self {
        Self::new([count], Transform::None, Layout::row_major(1).block(0, len))
    }

    /// Whether a transform can be applied to a tensor under these extents.
    fn takes(extents: &[usize], transform: Transform) -> bool {
        !matches!(transform, Transform::Winograd(_)) || extents.last() == Some(&winograd::TAPS)
    }

    /// Extents under which the tensor is seen.
    pub fn extents(&self) -> &[usize] {
        &self.extents
    }

    /// What happens to the elements first.
    pub fn transform(&self) -> Transform {
        self.transform
    }

    /// Their order.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Whether the packed bytes are the elements as they are.
    pub fn is_plain(&self) -> bool {
        self.transform == Transform::None && self.layout.is_plain()
    }

    /// Extents of what is put in order.
    fn transformed(&self) -> Vec<usize> {
        let mut extents = self.extents.clone();
        if let (Transform::Winograd(tile), Some(taps)) = (self.transform, extents.last_mut()) {
            *taps = tile.positions();
        }
        extents
    }

    /// Elements of the packed form.
    pub fn len(&self) -> usize {
        self.transformed().iter().enumerate().map(|(axis, extent)| self.layout.stored(axis, *extent)).product()
    }

    /// Whether the packed form has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the packed form of `source`, elements of `size` bytes, into `packed`, which holds zeros. What is beyond either is left out.
    pub fn pack(&self, size: usize, source: &[u8], packed: &mut [u8]) {
        if self.is_plain() && source.len() == packed.len() {
            return packed.copy_from_slice(source);
        }
        match size {
            1 => self.pack_as::<1>(source, packed),
            2 => self.pack_as::<2>(source, packed),
            4 => self.pack_words(source.as_chunks().0, packed.as_chunks_mut().0),
            8 => self.pack_as::<8>(source, packed),
            _ => {}
        }
    }

    /// Reads the elements of `size` bytes back from their packed form; `source` is what [`Self::pack`] took. Factors and filters come back
    /// as well as rounding allows.
    pub fn unpack(&self, size: usize, packed: &[u8], source: &mut [u8]) {
        match size {
            1 => self.unpack_as::<1>(packed, source),
            2 => self.unpack_as::<2>(packed, source),
            4 => self.unpack_words(packed.as_chunks().0, source.as_chunks_mut().0),
            8 => self.unpack_as::<8>(packed, source),
            _ => {}
        }
    }

    fn pack_as<const S: usize>(&self, source: &[u8], packed: &mut [u8]) {
        self.place(source.as_chunks::<S>().0, packed.as_chunks_mut::<S>().0, |element| element);
    }

    fn unpack_as<const S: usize>(&self, packed: &[u8], source: &mut [u8]) {
        self.collect(packed.as_chunks::<S>().0, source.as_chunks_mut::<S>().0, |element| element);
    }

    fn pack_words(&self, source: &[[u8; 4]], packed: &mut [[u8; 4]]) {
        match self.transform {
            Transform::None if self.pack_panels(source, packed) => {}
            Transform::None => self.place(source, packed, |element| element),
            Transform::Scale(bits) => {
                let factor = f32::from_bits(bits);
                self.place(source, packed, |element| (f32::from_le_bytes(element) * factor).to_le_bytes());
            }
            Transform::Winograd(tile) => {
                let (filter, positions) = (winograd::Filter::new(tile), tile.positions());
                self.visit(|from, base, places| {
                    let taps = source.get(from / positions * winograd::TAPS..).and_then(<[_]>::first_chunk);
                    let values = taps.into_iter().flat_map(|taps| filter.transform(taps));
                    for (place, value) in places.iter().zip(values) {
                        packed[base + place] = value;
                    }
                });
            }
        }
    }

    fn unpack_words(&self, packed: &[[u8; 4]], source: &mut [[u8; 4]]) {
        match self.transform {
            Transform::None => self.collect(packed, source, |element| element),
            Transform::Scale(bits) => {
                let factor = f32::from_bits(bits);
                self.collect(packed, source, |element| (f32::from_le_bytes(element) / factor).to_le_bytes());
            }
            Transform::Winograd(tile) => {
                let (filter, positions) = (winograd::Filter::new(tile), tile.positions());
                self.visit(|from, base, places| {
                    let values: Vec<[u8; 4]> = places.iter().map(|place| packed[base + place]).collect();
                    let taps = source.get_mut(from / positions * winograd::TAPS..);
                    if let Some(taps) = taps.and_then(<[_]>::first_chunk_mut) {
                        *taps = filter.restore(&values);
                    }
                });
            }
        }
    }

    /// Puts every element in its place.
    fn place<T: Copy>(&self, source: &[T], packed: &mut [T], change: impl Fn(T) -> T) {
        if let [one] = source {
            let value = change(*one);
            return self.visit(|_, base, places| places.iter().for_each(|place| packed[base + place] = value));
        }
        self.visit(|from, base, places| {
            for (place, element) in places.iter().zip(&source[from..]) {
                packed[base + place] = change(*element);
            }
        });
    }

    /// Takes every element from its place.
    fn collect<T: Copy>(&self, packed: &[T], source: &mut [T], change: impl Fn(T) -> T) {
        let last = source.len().saturating_sub(1);
        self.visit(|from, base, places| {
            for (place, element) in places.iter().zip(&mut source[from.min(last)..]) {
                *element = change(packed[base + place]);
            }
        });
    }

    /// Calls `line` for every run of the last axis: number of its first element, and where its elements lie, as a base and a place for each.
    fn visit(&self, mut line: impl FnMut(usize, usize, &[usize])) {
        let extents = self.transformed();
        if extents.contains(&0) {
            return;
        }
        let ragged = self.layout.blocks.iter().find(|block| block.step != block.size);
        let mut part = |axis: usize, elements: std::ops::Range<usize>, last: bool| {
            if elements.is_empty() {
                return;
            }
            let places = self.layout.places(&extents, last);
            let range = |a: usize| if a == axis { elements.clone() } else { 0..extents[a] };
            let Some((inner, outer)) = places.split_last() else { return line(0, 0, &[0]) };
            let inner_range = range(outer.len());
            let mut index: Vec<usize> = (0..outer.len()).map(|a| range(a).start).collect();
            loop {
                let first = index.iter().zip(&extents).fold(0, |at, (i, extent)| at * extent + i);
                let base = index.iter().zip(outer).map(|(i, places)| places[*i]).sum();
                line(first * inner.len() + inner_range.start, base, &inner[inner_range.clone()]);
                let Some(axis) = (0..outer.len()).rev().find(|a| index[*a] + 1 < range(*a).end) else { break };
                index[axis] += 1;
                (axis + 1..outer.len()).for_each(|a| index[a] = range(a).start);
            }
        };
        match ragged {
            None => part(0, 0..extents[..].first().copied().unwrap_or(1), false),
            Some(block) => {
                let full = extents[block.axis] / block.size * block.size;
                part(block.axis, 0..full, false);
                part(block.axis, full..extents[block.axis], true);
            }
        }
    }

    /// Rows per output to panels of lines per input, whole cache lines at a time; `false` for every other packing.
    fn pack_panels(&self, source: &[[u8; 4]], packed: &mut [[u8; 4]]) -> bool {
        let [Block { axis, size, step }] = self.layout.blocks[..] else { return false };
        let (rank, outputs) = (self.extents.len(), self.extents[axis]);
        let mut order: Vec<usize> = (0..rank).collect();
        let [channels, taps] = match rank - axis {
            2 => [self.extents[axis + 1], 1],
            3 => {
                order.swap(axis + 1, axis + 2);
                [self.extents[axis + 1], self.extents[axis + 2]]
            }
            _ => return false,
        };
        let depth = channels * taps;
        let fits =
            self.layout.order == order && step == size && size <= 32 && source.len() == self.extents.iter().product();
        if !fits || depth * outputs == 0 {
            return false;
        }
        let stored = outputs.next_multiple_of(size) * depth;
        for (rows, panels) in source.chunks_exact(outputs * depth).zip(packed.chunks_exact_mut(stored)) {
            for (rows, panel) in rows.chunks(size * depth).zip(panels.chunks_exact_mut(size * depth)) {
                match size {
                    ..=16 => lines::<_, 16>(rows, [channels, taps], size, panel),
                    _ => lines::<_, 32>(rows, [channels, taps], size, panel),
                }
            }
        }
        true
    }
}

/// The letter of an axis.
fn letter(axis: usize) -> char {
    char::from(b'a' + (axis % 26) as u8)
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for axis in &self.order {
            let blocked = self.blocks.iter().any(|block| block.axis == *axis);
            f.write_char(if blocked { letter(*axis).to_ascii_uppercase() } else { letter(*axis) })?;
        }
        for Block { axis, size, step } in &self.blocks {
            write!(f, "{size}")?;
            if step != size {
                write!(f, ":{step}")?;
            }
            f.write_char(letter(*axis))?;
        }
        Ok(())
    }
}

impl fmt::Display for Packing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('[')?;
        for (i, extent) in self.extents.iter().enumerate() {
            write!(f, "{}{extent}", if i > 0 { "," } else { "" })?;
        }
        f.write_str("] ")?;
        match self.transform {
            Transform::None => {}
            Transform::Scale(bits) => write!(f, "times {:?} ", f32::from_bits(bits))?,
            Transform::Winograd(tile) => write!(f, "winograd {tile} ")?,
        }
        write!(f, "{}", self.layout)
    }
}

/// A text that is no packing: what was found, and what should stand there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ParseError {
    /// What should stand there.
    pub expected: &'static str,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {:?}", self.expected, self.found)
    }
}

impl std::error::Error for ParseError {}

fn expected<T>(expected: &'static str, found: &str) -> Result<T, ParseError> {
    Err(ParseError { expected, found: found.into() })
}

impl FromStr for Layout {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const WHAT: &str = "a layout such as aBdc16b";
        let digits = text.find(|c: char| c.is_ascii_digit()).unwrap_or(text.len());
        let (axes, mut rest) = text.split_at(digits);
        let axis = |c: char| (c.to_ascii_lowercase() as usize).wrapping_sub('a' as usize);
        let mut layout = Self { order: axes.chars().map(axis).collect(), blocks: Vec::new() };
        if !axes.is_ascii() || !is_permutation(&layout.order) || layout.rank() > 26 {
            return expected("every axis once, a to z", text);
        }
        while !rest.is_empty() {
            let Some(end) = rest.find(|c: char| c.is_ascii_lowercase()) else { return expected(WHAT, text) };
            let (size, step) = rest[..end].split_once(':').unwrap_or((&rest[..end], &rest[..end]));
            let (Ok(size), Ok(step)) = (size.parse::<usize>(), step.parse::<usize>()) else {
                return expected(WHAT, text);
            };
            let block = Block { axis: axis(char::from(rest.as_bytes()[end])), size, step };
            if block.axis >= layout.rank() || step == 0 || !size.is_multiple_of(step) {
                return expected("a block of an axis, of which a last one takes whole steps", text);
            }
            layout.blocks.push(block);
            rest = &rest[end + 1..];
        }
        let count = |axis: usize| layout.blocks.iter().filter(|block| block.axis == axis).count();
        let alone = layout.blocks.iter().all(|block| block.step == block.size || count(block.axis) == 1);
        if layout.to_string() == text && alone { Ok(layout) } else { expected(WHAT, text) }
    }
}

impl FromStr for Packing {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        const WHAT: &str = "extents, perhaps `times` or `winograd`, and a layout";
        let Some((extents, rest)) = text.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else {
            return expected(WHAT, text);
        };
        let extents: Result<Vec<usize>, _> = extents.split(',').map(str::parse).collect();
        let Ok(extents) = extents else { return expected("extents", text) };
        let (transform, layout) = match rest.split(' ').collect::<Vec<_>>()[..] {
            [layout] => (Transform::None, layout),
            ["times", factor, layout] => match factor.parse() {
                Ok(factor) => (Transform::scale(factor), layout),
                Err(_) => return expected("a factor", factor),
            },
            ["winograd", tile, layout] => (Transform::Winograd(tile.parse()?), layout),
            _ => return expected(WHAT, text),
        };
        let layout: Layout = layout.parse()?;
        if extents.len() != layout.rank() || !Self::takes(&extents, transform) {
            return expected("as many extents as axes, and 9 taps last for a Winograd filter", text);
        }
        Ok(Self { extents, transform, layout })
    }
}

#[cfg(test)]
mod tests;
