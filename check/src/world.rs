//! A rendered world: images of coloured shapes with exact captions.
//!
//! The faults of its pairs are known, so verdicts can be tested against the truth. A drawing shows
//! one to three groups of shapes in different cells of a 3 × 3 grid, on a grainy ground of one or
//! two tones, and sometimes a word. Its caption has one of eight sentence patterns. Pixels are
//! drawn with integers only, so they are the same on every machine.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::RngCore;

use crate::features::SIDE;
use crate::random::{Purpose, stream};

/// An image with its captions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// RGB, row by row, [`SIDE`] × [`SIDE`] pixels.
    pub pixels: Vec<u8>,
    /// Its caption, in one of [`WORDINGS`] sentence patterns.
    pub caption: String,
    /// The same in German.
    pub translation: String,
    /// The same in one sentence pattern for all drawings.
    pub one_wording: String,
}

/// Sentence patterns of captions.
pub const WORDINGS: usize = 8;

/// Draws images. The first drawings of a seed are the same for every `count`.
pub fn drawings(count: usize, seed: u64) -> Vec<Drawing> {
    let mut draws = stream(seed, Purpose::World);
    (0..count).map(|_| drawing(&mut draws)).collect()
}

/// A colour with its name in English and German; the German one takes endings.
struct Colour {
    rgb: [u8; 3],
    english: &'static str,
    german: &'static str,
}

const fn colour(rgb: [u8; 3], english: &'static str, german: &'static str) -> Colour {
    Colour { rgb, english, german }
}

/// Colours of shapes: the basic colour terms of English except grey (Berlin and Kay, 1969), and
/// turquoise.
const COLOURS: [Colour; 11] = [
    colour([220, 30, 30], "red", "rot"),
    colour([240, 140, 30], "orange", "orangefarben"),
    colour([240, 220, 40], "yellow", "gelb"),
    colour([30, 160, 50], "green", "grün"),
    colour([40, 70, 225], "blue", "blau"),
    colour([130, 40, 160], "purple", "violett"),
    colour([250, 150, 190], "pink", "rosafarben"),
    colour([120, 70, 30], "brown", "braun"),
    colour([10, 10, 10], "black", "schwarz"),
    colour([250, 250, 250], "white", "weiß"),
    colour([50, 210, 210], "turquoise", "türkisfarben"),
];

/// Colours of the ground; no shape has one of them.
const GROUNDS: [Colour; 6] = [
    colour([185, 185, 185], "silver", "silbern"),
    colour([75, 75, 75], "charcoal", "anthrazitfarben"),
    colour([225, 210, 175], "beige", "beigefarben"),
    colour([25, 30, 75], "navy", "marineblau"),
    colour([110, 110, 50], "olive", "olivfarben"),
    colour([195, 175, 225], "lilac", "fliederfarben"),
];

/// Maximum deviation of the ground from its colour, in grey levels.
const GRAIN: i32 = 18;

/// Sizes with their radius in pixels, in English and German; the largest fills a cell of the grid.
const SIZES: [(i32, &str, &str); 4] =
    [(3, "tiny", "winzig"), (5, "small", "klein"), (7, "medium", "mittelgroß"), (10, "large", "groß")];

/// Number of sizes of shapes in a group: the first ones, which fit into a cell side by side.
const GROUP_SIZES: usize = 2;

/// Maximum number of shapes of a group.
const MOST_OF_A_GROUP: usize = 4;

/// Places of the shapes of a group, in pixels from the middle of its cell.
const PLACES_OF_A_GROUP: [&[(i32, i32)]; MOST_OF_A_GROUP] =
    [&[(0, 0)], &[(-5, 0), (5, 0)], &[(-5, 4), (5, 4), (0, -5)], &[(-5, -5), (5, -5), (-5, 5), (5, 5)]];

/// Maximum radius of shapes of a group, in pixels.
const GROUP_RADIUS: i32 = 4;

const NUMBERS: [(&str, &str); MOST_OF_A_GROUP] = [("a", "ein"), ("two", "zwei"), ("three", "drei"), ("four", "vier")];

/// A shape with its names.
struct Shape {
    english: &'static str,
    plural: &'static str,
    german: &'static str,
    german_plural: &'static str,
    /// The ending of an adjective before the German name: its gender.
    ending: &'static str,
    /// Returns whether the shape covers a point, from the point's offset to the right and down from
    /// the middle, and the radius, in pixels.
    covers: fn(i32, i32, i32) -> bool,
}

const SHAPES: [Shape; 10] = [
    Shape {
        english: "circle",
        plural: "circles",
        german: "Kreis",
        german_plural: "Kreise",
        ending: "er",
        covers: |x, y, r| x * x + y * y <= r * r,
    },
    Shape {
        english: "square",
        plural: "squares",
        german: "Quadrat",
        german_plural: "Quadrate",
        ending: "es",
        covers: |x, y, r| 10 * x.abs().max(y.abs()) <= 9 * r,
    },
    Shape {
        english: "triangle",
        plural: "triangles",
        german: "Dreieck",
        german_plural: "Dreiecke",
        ending: "es",
        covers: |x, y, r| y <= r && 2 * x.abs() <= y + r,
    },
    Shape {
        english: "cross",
        plural: "crosses",
        german: "Kreuz",
        german_plural: "Kreuze",
        ending: "es",
        covers: |x, y, r| x.abs().max(y.abs()) <= r && 3 * x.abs().min(y.abs()) <= r,
    },
    Shape {
        english: "ring",
        plural: "rings",
        german: "Reif",
        german_plural: "Reife",
        ending: "er",
        covers: |x, y, r| x * x + y * y <= r * r && 2 * (x * x + y * y) >= r * r,
    },
    Shape {
        english: "bar",
        plural: "bars",
        german: "Balken",
        german_plural: "Balken",
        ending: "er",
        covers: |x, y, r| x.abs() <= r && 3 * y.abs() <= r,
    },
    Shape {
        english: "star",
        plural: "stars",
        german: "Stern",
        german_plural: "Sterne",
        ending: "er",
        covers: |x, y, r| [y, -y].iter().any(|y| 2 * y <= r && 3 * x.abs() <= 2 * (y + r)),
    },
    Shape {
        english: "diamond",
        plural: "diamonds",
        german: "Raute",
        german_plural: "Rauten",
        ending: "e",
        covers: |x, y, r| x.abs() + y.abs() <= r,
    },
    Shape {
        english: "dome",
        plural: "domes",
        german: "Kuppel",
        german_plural: "Kuppeln",
        ending: "e",
        covers: |x, y, r| 2 * y <= r && 4 * x * x + (2 * y - r) * (2 * y - r) <= 4 * r * r,
    },
    Shape {
        english: "arrow",
        plural: "arrows",
        german: "Pfeil",
        german_plural: "Pfeile",
        ending: "er",
        covers: |x, y, r| (-r <= x && x <= 0 && 4 * y.abs() <= r) || (x >= 0 && x + y.abs() <= r),
    },
];

/// Names of the cells of the grid: before a colon, in a sentence, in German.
const CELLS: [(&str, &str, &str); 9] = [
    ("top left", "at the top left", "oben links"),
    ("top", "at the top", "oben"),
    ("top right", "at the top right", "oben rechts"),
    ("left", "on the left", "links"),
    ("middle", "in the middle", "mittig"),
    ("right", "on the right", "rechts"),
    ("bottom left", "at the bottom left", "unten links"),
    ("bottom", "at the bottom", "unten"),
    ("bottom right", "at the bottom right", "unten rechts"),
];

/// The middle of the first cell and the distance to the next, in pixels.
const FIRST_CELL: i32 = 11;
const NEXT_CELL: i32 = 21;

/// Maximum deviation of a group from the middle of its cell, in pixels.
const STRAY: i32 = 2;

/// Letters of 5 × 7 pixels, row by row, the leftmost pixel in the highest of five bits.
#[rustfmt::skip]
const LETTERS: [[u8; 7]; 26] = [
    [14, 17, 17, 31, 17, 17, 17], [30, 17, 17, 30, 17, 17, 30], [14, 17, 16, 16, 16, 17, 14], [30, 17, 17, 17, 17, 17, 30],
    [31, 16, 16, 30, 16, 16, 31], [31, 16, 16, 30, 16, 16, 16], [14, 17, 16, 23, 17, 17, 15], [17, 17, 17, 31, 17, 17, 17],
    [14, 4, 4, 4, 4, 4, 14],      [7, 2, 2, 2, 2, 18, 12],      [17, 18, 20, 24, 20, 18, 17], [16, 16, 16, 16, 16, 16, 31],
    [17, 27, 21, 21, 17, 17, 17], [17, 25, 21, 19, 17, 17, 17], [14, 17, 17, 17, 17, 17, 14], [30, 17, 17, 30, 16, 16, 16],
    [14, 17, 17, 17, 21, 18, 13], [30, 17, 17, 30, 20, 18, 17], [15, 16, 16, 14, 1, 1, 30],   [31, 4, 4, 4, 4, 4, 4],
    [17, 17, 17, 17, 17, 17, 14], [17, 17, 17, 17, 17, 10, 4],  [17, 17, 17, 21, 21, 27, 17], [17, 17, 10, 4, 10, 17, 17],
    [17, 17, 10, 4, 4, 4, 4],     [31, 1, 2, 4, 8, 16, 31],
];
const LETTER_WIDTH: i32 = 5;
const LETTER_HEIGHT: i32 = 7;

/// Percentages of drawings with one, two and three groups.
const OF_GROUPS: [u32; 3] = [30, 40, 30];

/// Percentages of drawings with a word, a ground of two tones, and a caption that names the ground.
const WITH_A_WORD: u32 = 40;
const OF_TWO_TONES: u32 = 40;
const NAMING_THE_GROUND: u32 = 60;

struct Group {
    count: usize,
    size: usize,
    colour: usize,
    shape: usize,
    cell: usize,
}

struct Scene {
    groups: Vec<Group>,
    /// One tone, or those of the upper and the lower half.
    ground: Vec<usize>,
    names_ground: bool,
    word: Option<String>,
}

fn drawing(draws: &mut ChaCha8Rng) -> Drawing {
    let scene = scene(draws);
    let wording = below(draws, WORDINGS);
    Drawing {
        caption: caption(&scene, wording),
        translation: german(&scene),
        one_wording: caption(&scene, 0),
        pixels: pixels(&scene, draws),
    }
}

/// Draws a number below `end`; for the small numbers of this module the bias is below 2⁻⁵⁰.
fn below(draws: &mut ChaCha8Rng, end: usize) -> usize {
    ((u128::from(draws.next_u64()) * end as u128) >> 64) as usize
}

fn in_a_hundred(draws: &mut ChaCha8Rng, percent: u32) -> bool {
    below(draws, 100) < percent as usize
}

fn scene(draws: &mut ChaCha8Rng) -> Scene {
    let share = below(draws, 100) as u32;
    let count = if share < OF_GROUPS[0] { 1 } else { 2 + usize::from(share >= OF_GROUPS[0] + OF_GROUPS[1]) };
    let mut cells: Vec<usize> = (0..CELLS.len()).collect();
    let mut groups: Vec<Group> = (0..count)
        .map(|_| {
            // Half of the groups are single shapes.
            let count = if in_a_hundred(draws, 50) { 1 } else { 2 + below(draws, MOST_OF_A_GROUP - 1) };
            let size = below(draws, if count == 1 { SIZES.len() } else { GROUP_SIZES });
            let (colour, shape) = (below(draws, COLOURS.len()), below(draws, SHAPES.len()));
            Group { count, size, colour, shape, cell: cells.swap_remove(below(draws, cells.len())) }
        })
        .collect();
    groups.sort_by_key(|group| group.cell);
    let first = below(draws, GROUNDS.len());
    let mut ground = vec![first];
    if in_a_hundred(draws, OF_TWO_TONES) {
        ground.push((first + 1 + below(draws, GROUNDS.len() - 1)) % GROUNDS.len());
    }
    let names_ground = in_a_hundred(draws, NAMING_THE_GROUND);
    let word = in_a_hundred(draws, WITH_A_WORD).then(|| {
        let letters = 3 + below(draws, 2);
        (0..letters).map(|_| char::from(b'A' + below(draws, LETTERS.len()) as u8)).collect()
    });
    Scene { groups, ground, names_ground, word }
}

fn pixels(scene: &Scene, draws: &mut ChaCha8Rng) -> Vec<u8> {
    let mut grain = vec![0_u8; SIDE * SIDE];
    draws.fill_bytes(&mut grain);
    let tone = |y: usize| GROUNDS[scene.ground[if y < SIDE / 2 { 0 } else { scene.ground.len() - 1 }]].rgb;
    let mut pixels = Vec::with_capacity(3 * SIDE * SIDE);
    for (place, grain) in grain.iter().enumerate() {
        let stray = i32::from(*grain) * (2 * GRAIN + 1) / 256 - GRAIN;
        pixels.extend(tone(place / SIDE).map(|value| (i32::from(value) + stray).clamp(0, 255) as u8));
    }
    for group in &scene.groups {
        let [left, top] = middle(group.cell).map(|at| at + below(draws, (2 * STRAY + 1) as usize) as i32 - STRAY);
        let radius = if group.count == 1 { SIZES[group.size].0 } else { SIZES[group.size].0.min(GROUP_RADIUS) };
        for (right, down) in PLACES_OF_A_GROUP[group.count - 1] {
            for (dx, dy) in (-radius..=radius).flat_map(|dy| (-radius..=radius).map(move |dx| (dx, dy))) {
                if (SHAPES[group.shape].covers)(dx, dy, radius) {
                    paint(&mut pixels, left + right + dx, top + down + dy, COLOURS[group.colour].rgb);
                }
            }
        }
    }
    if let Some(word) = &scene.word {
        write(&mut pixels, scene, word, draws);
    }
    pixels
}

/// Writes a word into a cell without shapes, in black or white, whichever is farther from the
/// ground.
fn write(pixels: &mut [u8], scene: &Scene, word: &str, draws: &mut ChaCha8Rng) {
    let free: Vec<usize> =
        (0..CELLS.len()).filter(|cell| scene.groups.iter().all(|group| group.cell != *cell)).collect();
    let [x, y] = middle(free[below(draws, free.len())]);
    let width = word.len() as i32 * (LETTER_WIDTH + 1) - 1;
    let left = (x - width / 2).clamp(0, SIDE as i32 - width);
    let top = y - LETTER_HEIGHT / 2;
    let tone = GROUNDS[scene.ground[if (y as usize) < SIDE / 2 { 0 } else { scene.ground.len() - 1 }]].rgb;
    let is_dark = tone.iter().map(|value| u32::from(*value)).sum::<u32>() < 3 * 128;
    let ink = if is_dark { [255; 3] } else { [0; 3] };
    for (place, letter) in (0_i32..).zip(word.bytes()) {
        for (row, bits) in (0_i32..).zip(LETTERS[usize::from(letter - b'A')]) {
            for column in (0..LETTER_WIDTH).filter(|column| bits >> (LETTER_WIDTH - 1 - column) & 1 == 1) {
                paint(pixels, left + place * (LETTER_WIDTH + 1) + column, top + row, ink);
            }
        }
    }
}

fn middle(cell: usize) -> [i32; 2] {
    [cell % 3, cell / 3].map(|at| FIRST_CELL + NEXT_CELL * at as i32)
}

fn paint(pixels: &mut [u8], x: i32, y: i32, rgb: [u8; 3]) {
    let inside = 0..SIDE as i32;
    if inside.contains(&x) && inside.contains(&y) {
        pixels[3 * (y as usize * SIDE + x as usize)..][..3].copy_from_slice(&rgb);
    }
}

/// Describes a scene in one of the sentence patterns.
fn caption(scene: &Scene, wording: usize) -> String {
    let groups = &scene.groups;
    let each = |phrase: &dyn Fn(&Group) -> String| groups.iter().map(phrase).collect::<Vec<String>>();
    let named_at = |group: &Group| format!("{} {}", named(group), CELLS[group.cell].1);
    let shown = list(&each(&named_at), "and");
    let ground = scene.names_ground.then(|| ground(scene));
    let (ground, word) = (ground.as_deref(), scene.word.as_deref());
    let text = match wording {
        0 => format!("{shown}{}{}", told(", on ", ground, ""), told(", with the word ", word, "")),
        1 => format!("{}{}{}", told("on ", ground, ": "), each(&named_at).join("; "), told("; it reads ", word, "")),
        2 => {
            let verb = if groups[0].count == 1 { "is" } else { "are" };
            format!(
                "there {verb} {shown}{}{}.",
                told(" beside the letters ", word, ""),
                told(". Behind it, ", ground, "")
            )
        }
        3 => {
            let parts = each(&|group| format!("{}: {}.", capital(CELLS[group.cell].0), named(group)));
            format!("{}{}{}", parts.join(" "), told(" Word: ", word, "."), told(" Ground: ", ground, "."))
        }
        4 => {
            let parts = each(&|group| format!("{}, {}", bare(group), CELLS[group.cell].0));
            format!("{}{}{}", parts.join(" + "), told(" + text ", word, ""), told(" over ", ground, ""))
        }
        5 => {
            let parts = each(&|group| {
                let Group { count, size, colour, .. } = *group;
                let (stand, article) = if count == 1 { ("stands", "one") } else { ("stand", NUMBERS[count - 1].0) };
                let (size, colour) = (SIZES[size].1, COLOURS[colour].english);
                format!("{article} {}, {size} and {colour}, {stand} {}", noun(group), CELLS[group.cell].1)
            });
            format!("{}{}{}", told("before ", ground, ", "), list(&parts, "while"), told("; someone wrote ", word, ""))
        }
        6 => {
            let parts = each(&|group| format!("the {} holds {}", CELLS[group.cell].0, named(group)));
            format!("{}{}{}", told("marked ", word, ", "), list(&parts, "and"), told(" against ", ground, ""))
        }
        _ => {
            let parts = each(&|group| {
                let Group { count, colour, .. } = *group;
                let number = if count == 1 { "one" } else { NUMBERS[count - 1].0 };
                let (size, colour) = (SIZES[group.size].1, COLOURS[colour].english);
                format!("{number} {} in {colour} ({size}), {}", noun(group), CELLS[group.cell].0)
            });
            format!("drawing{}: {}{}", told(" on ", ground, ""), list(&parts, "then"), told(", signed ", word, ""))
        }
    };
    capital(&text)
}

/// Returns an optional part of a caption with the text before and after it; empty if there is none.
fn told(before: &str, what: Option<&str>, after: &str) -> String {
    what.map(|what| format!("{before}{what}{after}")).unwrap_or_default()
}

fn named(group: &Group) -> String {
    let bare = bare(group);
    if group.count == 1 { format!("a {bare}") } else { bare }
}

fn bare(group: &Group) -> String {
    let number = if group.count == 1 { String::new() } else { format!("{} ", NUMBERS[group.count - 1].0) };
    format!("{number}{} {} {}", SIZES[group.size].1, COLOURS[group.colour].english, noun(group))
}

fn noun(group: &Group) -> &'static str {
    let shape = &SHAPES[group.shape];
    if group.count == 1 { shape.english } else { shape.plural }
}

fn ground(scene: &Scene) -> String {
    let tone = |at: usize| GROUNDS[scene.ground[at]].english;
    match scene.ground.len() {
        1 => format!("a grainy {} ground", tone(0)),
        _ => format!("{} above {}", tone(0), tone(1)),
    }
}

fn german(scene: &Scene) -> String {
    let of_group = |group: &Group| {
        let shape = &SHAPES[group.shape];
        let (article, ending, noun) = match group.count {
            1 => (if shape.ending == "e" { "eine" } else { "ein" }, shape.ending, shape.german),
            count => (NUMBERS[count - 1].1, "e", shape.german_plural),
        };
        let (size, colour) = (SIZES[group.size].2, COLOURS[group.colour].german);
        format!("{article} {size}{ending} {colour}{ending} {noun} {}", CELLS[group.cell].2)
    };
    let tone = |at: usize| GROUNDS[scene.ground[at]].german;
    let ground = scene.names_ground.then(|| match scene.ground.len() {
        1 => format!("körnigem {}em Grund", tone(0)),
        _ => format!("{}em Grund über {}em", tone(0), tone(1)),
    });
    let shown = list(&scene.groups.iter().map(of_group).collect::<Vec<String>>(), "und");
    let (ground, word) = (told(", auf ", ground.as_deref(), ""), told(", mit dem Wort ", scene.word.as_deref(), ""));
    capital(&format!("{shown}{ground}{word}"))
}

/// Lists items with commas between them and a word before the last.
fn list(items: &[String], last: &str) -> String {
    match items {
        [items @ .., item] if !items.is_empty() => format!("{} {last} {item}", items.join(", ")),
        _ => items.concat(),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn drawings_are_the_same_everywhere() {
        let drawn = drawings(20, 1);
        let mut digest = blake3::Hasher::new();
        for drawing in &drawn {
            digest.update(&drawing.pixels);
        }
        let told: Vec<&str> = drawn[..3].iter().map(|drawing| drawing.caption.as_str()).collect();
        assert_eq!(
            told,
            [
                "Drawing on a grainy navy ground: one diamond in purple (large), right then one arrow in yellow (small), bottom right",
                "Drawing on a grainy beige ground: two crosses in green (small), bottom right",
                "A large green arrow on the left, on a grainy silver ground, with the word NJV",
            ]
        );
        assert_eq!(drawn[1].translation, "Zwei kleine grüne Kreuze unten rechts, auf körnigem beigefarbenem Grund");
        assert_eq!(drawn[1].one_wording, "Two small green crosses at the bottom right, on a grainy beige ground");
        assert_eq!(&digest.finalize().to_hex()[..16], "9d31987478e41a58");
    }

    #[test]
    fn more_drawings_begin_with_the_same_ones() {
        let (few, many) = (drawings(5, 3), drawings(9, 3));
        assert_eq!(few, many[..5]);
        assert_ne!(few, drawings(5, 4));
    }

    #[test]
    fn captions_name_what_is_drawn_in_every_wording() {
        let group = |count, shape, cell| Group { count, size: 0, colour: 0, shape, cell };
        let scene = Scene {
            groups: vec![group(1, 0, 0), group(3, 3, 4)],
            ground: vec![2],
            names_ground: true,
            word: Some("CAT".to_owned()),
        };
        let captions: BTreeSet<String> = (0..WORDINGS).map(|wording| caption(&scene, wording)).collect();
        assert_eq!(captions.len(), WORDINGS);
        for caption in captions {
            for word in ["circle", "three", "crosses", "tiny", "red", "left", "middle", "beige", "CAT"] {
                assert!(caption.to_lowercase().contains(&word.to_lowercase()), "{word} in {caption}");
            }
        }
        let german = german(&scene);
        assert_eq!(
            german,
            "Ein winziger roter Kreis oben links und drei winzige rote Kreuze mittig, auf körnigem beigefarbenem Grund, mit dem Wort CAT"
        );
    }

    #[test]
    fn every_shape_differs_from_the_others_at_every_size() {
        let mut all = BTreeSet::new();
        for (radius, ..) in SIZES {
            for shape in SHAPES {
                let points = (-radius..=radius).flat_map(|y| (-radius..=radius).map(move |x| (x, y)));
                let covered: Vec<(i32, i32)> = points.filter(|(x, y)| (shape.covers)(*x, *y, radius)).collect();
                assert!(covered.len() >= 5, "{} of radius {radius}", shape.english);
                assert!(all.insert(covered), "{} of radius {radius}", shape.english);
            }
        }
    }
}
