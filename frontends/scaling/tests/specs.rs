//! Specs as a designer writes them: what they resolve to, what is refused and how, and what budgets give.

use fornax_scaling::architecture::Head;
use fornax_scaling::count::count;
use fornax_scaling::growth::grow;
use fornax_scaling::presets;
use fornax_scaling::solve::{Budget, Measured, Solution, solve};
use fornax_scaling::spec::{Spec, SpecError};
use proptest::prelude::*;

fn parse(text: &str) -> Spec {
    Spec::parse(text, "my.toml").unwrap_or_else(|error| panic!("{error}"))
}

/// The message of a refused spec.
fn refused(text: &str) -> String {
    match Spec::parse(text, "my.toml").and_then(|spec| spec.resolve()) {
        Ok(resolved) => panic!("accepted: {:?}", resolved.multipliers),
        Err(error) => error.to_string(),
    }
}

#[test]
fn published_sizes_of_b0_to_b7() {
    let sizes = [
        (5_288_548, 385_814_752, 81),
        (7_794_184, 686_802_832, 115),
        (9_109_994, 993_561_872, 115),
        (12_233_232, 1_827_141_392, 130),
        (19_341_616, 4_393_771_024, 160),
        (30_389_784, 10_266_384_752, 194),
        (43_040_704, 19_067_593_536, 224),
        (66_347_960, 37_745_884_192, 273),
    ];
    for (index, expected) in sizes.into_iter().enumerate() {
        let resolved = Spec::preset(&format!("EfficientNet-B{index}")).unwrap().resolve().unwrap();
        let counts = count(&resolved.architecture, resolved.architecture.side);
        assert_eq!((counts.params, counts.macs.total(), counts.convs), expected, "B{index}");
    }
}

#[test]
fn every_preset_written_as_toml_gives_the_same_network() {
    for name in presets::names().unwrap() {
        let spec = Spec::preset(name).unwrap();
        let again = Spec::parse(&spec.to_toml(), "again.toml").unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again.resolve().unwrap().architecture, spec.resolve().unwrap().architecture);
        assert_eq!(again.preprocessing, spec.preprocessing);
    }
    let grown = grow(&Spec::preset("efficientnet_b3").unwrap(), -0.7);
    let again = Spec::parse(&grown.to_toml(), "again.toml").unwrap();
    assert_eq!(again.resolve().unwrap(), grown.resolve().unwrap());
}

#[test]
fn a_spec_overrides_its_base() {
    let spec = parse("base = \"efficientnet_b0\"\nclasses = 10\nwidth = 0.25\ndepth = 0.35\nresolution = 64\n");
    let architecture = spec.resolve().unwrap().architecture;
    assert_eq!((architecture.name.as_str(), architecture.classes, architecture.side), ("my", 10, 64));
    let first = &architecture.stages[0][0];
    assert_eq!((first.input, first.output, first.skip), (8, 8, true));
}

#[test]
fn labels_weights_and_metadata_are_written_and_read() {
    let text = "base = \"efficientnet_b0\"\nclasses = 2\nlabels = [\"a \\\"b\\\"\", \"c\\nd\"]\nweights = \"w.safetensors\"\n\
                [scaling]\nphi = 0.5\n[metadata]\n\"odd key\" = \"1\\n2\"\n";
    let spec = parse(text);
    let again = Spec::parse(&spec.to_toml(), "again.toml").unwrap();
    assert_eq!((&again.labels, &again.weights, &again.metadata), (&spec.labels, &spec.weights, &spec.metadata));
    assert_eq!(spec.labels.as_deref().unwrap(), ["a \"b\"", "c\nd"]);
    assert_eq!(spec.metadata["odd key"], "1\n2");
    // Another member of the family has no weights yet; another side changes nothing else.
    assert_eq!(grow(&spec, 1.0).weights, None);
    let moved = spec.with_side(100).resolve().unwrap();
    assert_eq!(moved.multipliers.side, 100);
    assert_eq!(moved.architecture.stages, spec.resolve().unwrap().architecture.stages);
}

#[test]
fn channels_without_a_width_stay_as_they_stand() {
    let architecture =
        parse("stem = { filters = 20 }\nstages = [{ filters = 13, expansion = 3 }]\n").resolve().unwrap().architecture;
    assert_eq!(
        (architecture.stem.output, architecture.stages[0][0].expanded, architecture.stages[0][0].output),
        (20, 60, 13)
    );
    assert_eq!(architecture.head.output(), 1280);
    assert!(matches!(architecture.head, Head::BeforePool { .. }));
}

/// Refused specs and what their messages hold.
const MALFORMED: &[(&str, &str)] = &[
    (
        "base = \"efficientnet_b0\"\nclasses = 3\nlabels = [\"a\"]\n",
        "my.toml:3: `labels`: expected 3 names, one for each class, found 1",
    ),
    (
        "base = \"efficientnet_b0\"\nweights = \"../w.pth\"\n",
        "my.toml:2: `weights`: expected the name of a file in the spec's own folder, found \"../w.pth\"",
    ),
    ("base = \"efficientnet_b0\"\nweights = \"/w.pth\"\n", "expected the name of a file in the spec's own folder"),
    ("base = \"efficientnet_b0\"\nwidth = -1.0\n", "my.toml:2: `width`: expected a number from 0.01 to 64, found -1.0"),
    ("width = nan\nbase = \"efficientnet_b0\"\n", "my.toml:1: `width`: expected a number from 0.01 to 64, found nan"),
    ("depth = inf\nbase = \"efficientnet_b0\"\n", "my.toml:1: `depth`: expected a number from 0.01 to 100, found inf"),
    (
        "\n[[stages]]\nkernel = 0\nfilters = 8\n",
        "my.toml:3: `stages[0].kernel`: expected an odd whole number from 1 to 31, or 1 to 16 of them in a list, found 0",
    ),
    ("widht = 1.0\n", "my.toml:1: unknown key `widht`; did you mean `width`?; known here: base, name, family, width,"),
    (
        "\nstages = [\n  { filters = 8 },\n  { filter = 8 },\n]\n",
        "my.toml:4: unknown key `filter`; did you mean `filters`?",
    ),
    (
        "base = \"efficientnet_b0\"\nresolution = 1\n",
        "my.toml:2: `resolution`: expected a whole number from 8 to 4096, found 1",
    ),
    ("base = \"efficientnet_b0\"\ndepth = 1e9\n", "my.toml:2: `depth`: expected a number from 0.01 to 100, found 1e9"),
    (
        "base = \"efficientnet_b7\"\ndepth = 100\nwidth = 60\n",
        "my.toml:3: `width`: expected at most 65536 channels after scaling, found 69120",
    ),
    ("base = \"efficientnet_b0\"\n\n[[stages]]\nfilters = 8\nrepeats = 2000\n[[stages]]\nfilters = 8\n", "my.toml"),
    ("depth = \"deep\"\n", "my.toml:1: `depth`: expected a number, found \"deep\""),
    ("resolution = 224.5\n", "my.toml:1: `resolution`: expected a whole number, found 224.5"),
    ("stages = [{ filters = \"many\" }]\n", "my.toml:1: `stages[0].filters`: expected a whole number, found \"many\""),
    (
        "stages = [{ kernel = \"three\", filters = 8 }]\n",
        "my.toml:1: `stages[0].kernel`: expected a whole number or a list of them, found \"three\"",
    ),
    ("stages = 3\n", "my.toml:1: `stages`: expected a list, found 3"),
    ("stem = 3\n", "my.toml:1: `stem`: expected a table, found 3"),
    ("stages = [{ repeats = 2 }]\n", "my.toml:1: `stages[0].filters`: expected the output channels, found nothing"),
    ("name = \"x\"\n", "my.toml: `stages`: expected at least one row of blocks"),
    (
        "base = \"efficientnet-b9\"\n",
        "my.toml:1: `base`: expected the name of a preset, found \"efficientnet-b9\"; did you mean `efficientnet_b0`?",
    ),
    (
        "base = \"efficientnet_b0\"\nactivation = \"rellu\"\n",
        "expected \"relu\" or \"relu6\" or \"silu\" or \"hard_swish\", found \"rellu\"; did you mean `relu`?",
    ),
    ("width = 1.0\nwidth = 2.0\n", "my.toml:2: duplicate key"),
    ("width = \n", "my.toml:1: "),
    (
        "base = \"efficientnet_b0\"\n[scaling]\nphi = 40\n",
        "my.toml:3: `scaling.phi`: expected a phi that gives a side from 8 to 4096",
    ),
];

#[test]
fn malformed_specs_say_where_and_what() {
    let wrong: Vec<String> = MALFORMED
        .iter()
        .map(|(text, expected)| (refused_or_accepted(text), expected))
        .filter(|(found, expected)| !found.contains(*expected))
        .map(|(found, expected)| format!("found    {found}\nexpected {expected}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(
        refused("base = \"efficientnet_b0\"\ndepth = 100\n[[stages]]\nfilters = 8\nrepeats = 30\n")
            .contains("my.toml:2: `depth`: expected at most 2000 blocks after scaling, found 3000 blocks")
    );
}

fn refused_or_accepted(text: &str) -> String {
    match Spec::parse(text, "my.toml").and_then(|spec| spec.resolve()) {
        Ok(_) => "accepted".to_string(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn greek_letters_follow_the_convention() {
    let with = |rest: &str| {
        let text =
            format!("base = \"efficientnet_b0\"\n[scaling]\nphi = 1\nalpha = 1.2\nbeta = 1.1\ngamma = 1.15\n{rest}");
        parse(&text).resolve().unwrap()
    };
    let paper = with("");
    assert_eq!((paper.multipliers.width, paper.multipliers.depth, paper.multipliers.side), (1.1, 1.2, 256));
    assert_eq!(count(&paper.architecture, 256).macs.total().div_ceil(1_000_000), 860);
    assert_eq!(paper.warnings.len(), 1, "{:?}", paper.warnings);
    let brief = with("convention = \"brief\"\nconstraint = 2.0\n");
    assert_eq!((brief.multipliers.width, brief.multipliers.depth), (1.2, 1.1));
    assert_eq!(count(&brief.architecture, 256).macs.total().div_ceil(1_000_000), 1121);
    assert_eq!(brief.warnings.len(), 1, "{:?}", brief.warnings);

    let text = "base = \"efficientnet_b0\"\n[scaling]\nalpha = 1.4\nbeta = 1.1\ngamma = 1.1\nconvention = \"brief\"\n";
    let swapped = parse(text).resolve().unwrap();
    assert!(swapped.warnings.iter().any(|text| text.contains("look swapped")), "{:?}", swapped.warnings);
    let shrinking = parse("base = \"efficientnet_b0\"\n[scaling]\nwidth_base = 0.9\n").resolve().unwrap();
    assert!(shrinking.warnings[0].contains("below 1"), "{:?}", shrinking.warnings);
    let both = refused("base = \"efficientnet_b0\"\n[scaling]\nalpha = 1.2\ndepth_base = 1.3\n");
    assert!(both.contains("my.toml:3: `scaling.alpha`: expected either"), "{both}");
}

fn counted(budget: &Budget) -> Solution {
    let spec = Spec::preset("efficientnet_b0").unwrap();
    let mut measure = |_: &fornax_scaling::architecture::Architecture| -> Result<Measured, SpecError> {
        unreachable!("counts need no measurement")
    };
    solve(&spec, budget, &mut measure).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn worked_budgets() {
    let two = counted(&Budget { macs: Some(2_000_000_000), ..Budget::default() });
    let (unraised, cost) = (&two.unraised, two.unraised.cost);
    assert_eq!((unraised.phi, unraised.multipliers.side), (2.21, 304));
    assert_eq!((cost.macs, cost.params), (1_877_159_456, 12_767_902));
    let outputs: Vec<usize> = unraised.architecture.stages.iter().map(|stage| stage[0].output).collect();
    assert_eq!(outputs, [24, 32, 48, 96, 136, 240, 392]);
    assert!(two.chosen.cost.macs <= 2_000_000_000 && two.chosen.multipliers.side.is_multiple_of(8));
    assert_eq!(two.next_side.unwrap().excess.len(), 1);
    assert_eq!(two.next_phi.unwrap().excess.len(), 1);
    assert_eq!(two.spec.resolve().unwrap().architecture, two.chosen.architecture);

    let small = counted(&Budget { macs: Some(200_000_000), ..Budget::default() });
    let (unraised, cost) = (&small.unraised, small.unraised.cost);
    assert_eq!((unraised.phi, unraised.multipliers.side), (-1.59, 176));
    assert_eq!((cost.macs, cost.params), (192_421_072, 3_716_748));
    let repeats: Vec<usize> = unraised.architecture.stages.iter().map(Vec::len).collect();
    assert_eq!(repeats, [1, 2, 2, 3, 3, 3, 1]);
}

#[test]
fn a_budget_of_parameters_keeps_the_side() {
    let solution = counted(&Budget { params: Some(8_000_000), ..Budget::default() });
    assert_eq!(solution.chosen.multipliers.side, 224);
    assert!(solution.chosen.cost.params <= 8_000_000 && solution.next_phi.unwrap().cost.params > 8_000_000);
}

#[test]
fn measuring_is_rare_and_decides() {
    let spec = Spec::preset("efficientnet_b0").unwrap();
    for limit in [1.0, 7.5, 60.0] {
        let mut calls = 0;
        let mut measure = |architecture: &fornax_scaling::architecture::Architecture| -> Result<Measured, SpecError> {
            calls += 1;
            let macs = count(architecture, architecture.side).macs.total();
            Ok(Measured { arena_bytes: None, latency_ms: Some(macs as f64 / 1e8 + 0.2) })
        };
        let budget = Budget { latency_ms: Some(limit), ..Budget::default() };
        let solution = solve(&spec, &budget, &mut measure).unwrap();
        let macs = ((limit - 0.2) * 1e8) as u64;
        let by_count = counted(&Budget { macs: Some(macs), ..Budget::default() });
        assert_eq!(solution.chosen.architecture, by_count.chosen.architecture);
        assert_eq!(solution.measurements, calls);
        assert!(calls <= 40, "{calls} measurements");
        assert!(solution.next_phi.unwrap().cost.measured.is_some());
    }
}

#[test]
fn budgets_without_an_answer_are_refused() {
    let spec = Spec::preset("efficientnet_b0").unwrap();
    let message = |budget: &Budget| {
        let mut measure = |_: &fornax_scaling::architecture::Architecture| -> Result<Measured, SpecError> {
            Ok(Measured { arena_bytes: Some(1), latency_ms: Some(9.0) })
        };
        solve(&spec, budget, &mut measure).map(|_| ()).unwrap_err().to_string()
    };
    assert!(message(&Budget::default()).contains("needs a limit"));
    assert!(message(&Budget { macs: Some(1000), ..Budget::default() }).contains("no network of efficientnet_b0 fits"));
    assert!(message(&Budget { latency_ms: Some(1.0), ..Budget::default() }).contains("latency ms 9 of 1"));
    assert!(message(&Budget { latency_ms: Some(f64::NAN), ..Budget::default() }).contains("above 0"));
}

proptest! {
    #[test]
    fn scaled_networks_are_refused_or_counted(
        phi in -50.0..50.0f64, bases in [0.1..10.0f64, 0.1..10.0, 0.1..10.0], width in 0.01..64.0f64, depth in 0.01..100.0f64,
    ) {
        let [w, d, r] = bases;
        for base in ["efficientnet_b0", "mixnet_m", "efficientnet_es"] {
            let text = format!(
                "base = \"{base}\"\nwidth = {width}\ndepth = {depth}\n[stem]\nscale = false\n\
                 [scaling]\nphi = {phi}\nwidth_base = {w}\ndepth_base = {d}\nresolution_base = {r}\n"
            );
            if let Ok(resolved) = parse(&text).resolve() {
                let counts = count(&resolved.architecture, resolved.architecture.side);
                prop_assert!(counts.params > 0 && counts.macs.total() > 0);
            }
        }
    }

    #[test]
    fn damaged_specs_are_read_or_refused(at in 0usize..4000, removed in 0usize..6, added in "[a-z0-9={}\\[\\]\".,\n -]{0,4}") {
        let text = Spec::preset("mixnet_s").unwrap().to_toml();
        let damaged: String = text.chars().take(at).chain(added.chars()).chain(text.chars().skip(at + removed)).collect();
        match Spec::parse(&damaged, "my.toml").and_then(|spec| spec.resolve()) {
            Ok(resolved) => prop_assert!(resolved.architecture.blocks().count() > 0),
            Err(error) => prop_assert!(error.to_string().starts_with("my.toml"), "{}", error),
        }
    }
}

/// As timm and torchvision evaluate them: what a base says of the crop must not shine through.
#[test]
fn presets_squash_only_where_their_source_does() {
    let squashes = |name: &&str| Spec::preset(name).unwrap().preprocessing.is_some_and(|images| images.squash);
    let squashed: Vec<&str> = presets::names().unwrap().iter().map(String::as_str).filter(squashes).collect();
    let expected = [
        "efficientnet_b5",
        "efficientnetv2_b3",
        "tf_efficientnetv2_b3",
        "tf_efficientnetv2_l",
        "tf_efficientnetv2_m",
        "tf_efficientnetv2_xl",
    ];
    assert_eq!(squashed.into_iter().collect::<std::collections::BTreeSet<_>>(), expected.into_iter().collect());
    let crop = |name: &str| Spec::preset(name).unwrap().preprocessing.unwrap().crop;
    assert_eq!((crop("tf_efficientnet_b5"), crop("torchvision_efficientnet_b5")), (0.934, 1.0));
}

#[test]
fn inputs_of_other_channels() {
    let text = "base = \"efficientnet_b0\"\nwidth = 0.25\nresolution = 64\n";
    let grey = parse(&format!("{text}channels = 1\n"));
    let images = grey.preprocessing.clone().unwrap();
    assert_eq!((images.mean, images.std), (vec![0.0], vec![1.0]));
    let architecture = grey.resolve().unwrap().architecture;
    assert_eq!(architecture.channels, 1);
    let [three, one] = [parse(text).resolve().unwrap().architecture, architecture].map(|a| count(&a, 64));
    assert_eq!(three.params - one.params, 2 * 9 * 8);
    assert!(grey.to_toml().contains("channels = 1\n"));
    let scaled = parse("channels = 1\nstages = [{ filters = 16 }]\n[preprocessing]\nmean = [0.5]\nstd = [0.25]\n");
    assert_eq!(scaled.preprocessing.unwrap().mean, [0.5]);
    let plain = parse("channels = 1\nstages = [{ filters = 16 }]\n[preprocessing]\ncrop = 1.0\n");
    assert_eq!(plain.preprocessing.unwrap().std, [1.0]);
    let message = refused("channels = 1\nstages = [{ filters = 16 }]\n[preprocessing]\nmean = [0.5, 0.5, 0.5]\n");
    assert!(message.contains("expected one number from 0 to 255"), "{message}");
    let message = refused("channels = 4\nstages = [{ filters = 16 }]\n[preprocessing]\nmean = [0.5, 0.5, 0.5, 0]\n");
    assert!(message.contains("no preprocessing of photos for 4 channels"), "{message}");
    assert!(refused("channels = 0\nstages = [{ filters = 16 }]\n").contains("channels"));
}

#[test]
fn keys_that_nothing_reads_are_refused() {
    let message = refused("stages = [{ filters = 16 }]\n[preprocessing]\nside = 288\n");
    assert!(message.contains("side"), "{message}");
    let message = refused("stages = [{ filters = 16, expand_from = 8 }]\n");
    assert!(message.ends_with("found 8") || message.contains("found 8"), "{message}");
}
