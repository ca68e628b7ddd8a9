//! Which levels the processor runs.
//!
//! In: the table of levels. Out: a function that asks `cpuid`, and the operating system by `xgetbv`, for what they need, and for
//! nothing else. Levels that need the same make a rung; the first rung of x86-64 needs bits of leaf 1 only, which every processor
//! has, and all others the registers of AVX.

use fornax_runtime::CpuFeatures;
use fornax_runtime::features::{Answer, CpuidBits};

use super::Symbol;
use crate::codegen::clif::routine::{Routine, Val};
use crate::target::Arch;

/// Bit of leaf 1, ecx: `xgetbv` may be used.
const OSXSAVE: u64 = 1 << 27;
/// The highest of the plain leaves that levels ask for.
const LAST_LEAF: u64 = 7;

/// A word that `cpuid` answers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Word {
    leaf: u32,
    subleaf: u32,
    answer: Answer,
}

/// The word that says the most of old processors.
const BASIC: Word = Word { leaf: 1, subleaf: 0, answer: Answer::Ecx };

impl From<CpuidBits> for Word {
    fn from(bits: CpuidBits) -> Self {
        Self { leaf: bits.leaf, subleaf: bits.subleaf, answer: bits.answer }
    }
}

/// The bits of a word that tell of features.
fn bits(features: CpuFeatures, word: Word) -> u64 {
    features
        .cpuid()
        .into_iter()
        .filter(|bits| Word::from(*bits) == word)
        .fold(0, |all, some| all | u64::from(some.bits))
}

/// Levels that need the same.
#[derive(Clone, Copy, Debug)]
struct Rung {
    features: CpuFeatures,
    /// A bit for the number of each.
    numbers: u64,
}

/// The levels of an architecture; those of tile registers only if `tiles`, as no library without such code asks for them.
fn rungs(arch: Arch, tiles: bool) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = Vec::new();
    for level in arch.levels().filter(|level| tiles || !level.vectors.tiles) {
        match rungs.iter_mut().find(|rung| rung.features == level.features) {
            Some(rung) => rung.numbers |= 1 << level.number,
            None => rungs.push(Rung { features: level.features, numbers: 1 << level.number }),
        }
    }
    rungs
}

/// A bit for the number of each level whose registers the operating system has to be asked for.
pub fn to_ask_for(arch: Arch) -> u64 {
    arch.levels().filter(|level| level.vectors.tiles).fold(0, |all, level| all | 1 << level.number)
}

/// Bit `n` is set where the processor and its operating system run level `n`; those of [`to_ask_for`] only if `tiles`.
pub fn levels<'r, 'f>(f: &'r Routine<'f>, arch: Arch, tiles: bool) -> Val<'r, 'f> {
    let rungs = rungs(arch, tiles);
    let Some((first, wider)) = rungs.split_first() else { return f.int(0) };
    if wider.is_empty() {
        return f.int(first.numbers);
    }
    let out = f.stack(16);
    let cpuid = |leaf: u32, subleaf: u32| {
        f.call(Symbol::Cpuid as u32, [f.int(leaf.into()), f.int(subleaf.into()), out]);
    };
    let has = |word: Val<'r, 'f>, bits: u64| (word & bits).is(bits);
    cpuid(BASIC.leaf, BASIC.subleaf);
    let basic = out.u32(4 * BASIC.answer as usize);
    let result = f.var(0u64);
    let least = bits(first.features, BASIC);
    f.when(has(basic, least), || result.set(first.numbers));
    // What no wider level does without, before the operating system is asked.
    let shared = wider.iter().fold(u64::MAX, |all, rung| all & bits(rung.features, BASIC)) & !least;
    let saves = wider.iter().fold(u64::MAX, |all, rung| all & rung.features.saved());
    f.return_if((has(basic, least) & has(basic, shared | OSXSAVE)).is(0u64), result.get());
    let saved = f.call(Symbol::Xgetbv as u32, []);
    cpuid(0, 0);
    f.return_if(out.u32(4 * Answer::Eax as usize).below(LAST_LEAF) | has(saved, saves).is(0u64), result.get());

    // The widest rung before each whose features it has too: it asks for the others only.
    let base = |at: usize| (0..at).rev().find(|before| wider[at].features.covers(wider[*before].features));
    let own = |at: usize| wider[at].features.without(base(at).map_or(first.features, |base| wider[base].features));
    let words = asked(wider, first.features);
    let (mut tests, mut last) = (vec![Vec::new(); wider.len()], basic);
    for (number, word) in words.iter().enumerate() {
        if *word != BASIC {
            cpuid(word.leaf, word.subleaf);
            last = out.u32(4 * word.answer as usize);
        }
        // No word but the last is kept while `cpuid` is called again.
        for (at, tests) in tests.iter_mut().enumerate().filter(|_| number + 1 < words.len()) {
            let tested = if *word == BASIC { shared } else { 0 };
            let bits = bits(own(at), *word) & !tested;
            tests.extend((bits != 0).then(|| has(last, bits)));
        }
    }
    let mut able: Vec<Val<'r, 'f>> = Vec::new();
    for (at, rung) in wider.iter().enumerate() {
        let mut all = base(at).map(|base| able[base]);
        let mut and = |test: Val<'r, 'f>| all = Some(all.map_or(test, |all| all & test));
        let bits = words.last().map_or(0, |word| bits(own(at), *word));
        if bits != 0 {
            and(has(last, bits));
        }
        tests[at].iter().for_each(|test| and(*test));
        if rung.features.saved() != saves {
            and(has(saved, rung.features.saved()));
        }
        let all = all.unwrap_or_else(|| f.int(1));
        f.when(all, || result.set(result.get() | rung.numbers));
        able.push(all);
    }
    result.get()
}

/// The words that rungs need besides `known` features: leaf 1 first, then from the highest leaf down.
fn asked(rungs: &[Rung], known: CpuFeatures) -> Vec<Word> {
    let needed = rungs.iter().flat_map(|rung| rung.features.without(known).cpuid());
    let mut words: Vec<Word> = needed.map(Word::from).collect();
    words.sort_unstable_by_key(|word| (*word != BASIC, std::cmp::Reverse(*word)));
    words.dedup();
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the function above takes for granted of the table.
    #[test]
    fn every_level_is_told_by_leaves_that_can_be_asked() {
        let rungs = rungs(Arch::X86_64, true);
        let (first, wider) = rungs.split_first().unwrap();
        assert!(
            first.features.saved() == 0 && first.features.cpuid().into_iter().all(|bits| Word::from(bits) == BASIC)
        );
        for rung in wider {
            assert!(rung.features.covers(first.features) && rung.features.avx, "{rung:?}");
            // Of processors with AVX, all have leaf 0x8000_0001 too.
            let leaves = [BASIC.leaf, LAST_LEAF as u32, 0x8000_0001];
            assert!(rung.features.cpuid().iter().all(|bits| leaves.contains(&bits.leaf)), "{rung:?}");
        }
        let numbers: Vec<u64> = rungs.iter().map(|rung| rung.numbers).collect();
        assert_eq!(numbers, [1 << 1, 1 << 2 | 1 << 3, 1 << 4, 1 << 5]);
        assert!(super::rungs(Arch::Aarch64, true)[..].iter().all(|rung| rung.features.cpuid().is_empty()));
        assert_eq!(super::rungs(Arch::Aarch64, true).len(), 1, "nothing is asked");
        let words = |wider: &[Rung]| -> Vec<(u32, u32)> {
            asked(wider, first.features).iter().map(|word| (word.leaf, word.subleaf)).collect()
        };
        assert_eq!(words(wider), [(1, 0), (0x8000_0001, 0), (7, 1), (7, 0), (7, 0)]);
        // The registers of AVX, then those of AVX-512, then tiles, in XCR0.
        let saved: Vec<u64> = wider.iter().map(|rung| rung.features.saved()).collect();
        assert_eq!(saved, [0b110, 0b1110_0110, 0b110_0000_0000_1110_0110]);
        assert_eq!((to_ask_for(Arch::X86_64), to_ask_for(Arch::Aarch64)), (1 << 5, 0));
        // A library without tile registers asks for none.
        let plain = super::rungs(Arch::X86_64, false);
        assert_eq!(plain.iter().map(|rung| rung.numbers).collect::<Vec<_>>(), numbers[..3]);
        assert_eq!(words(&plain[1..]), [(1, 0), (0x8000_0001, 0), (7, 0)]);
    }
}
