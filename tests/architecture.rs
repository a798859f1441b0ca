//! The walls of the house, checked: floors, the order inside the hub, no cycle among files, and
//! which room may name what.
//!
//! Sources are read as text; comments and literals are blanked out and the rest is cut into tokens,
//! which is enough to find every path and where it leads. Nothing but std is needed. Each rule is also shown a house with the fault built
//! in, so that none can pass because it has gone blind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

// ── The plan ──

/// The rooms, floor by floor. A file may name rooms of lower floors and its own, never one beside
/// it or above.
const FLOORS: &[&[&str]] = &[
    &["error"],
    &["trace", "sys"],
    &["coro"],
    &["hub"],
    &["wait", "timeout", "interrupt", "links"],
    &["greenlet", "sync", "queue", "raw", "local", "source", "threadpool"],
    &["net", "pool", "io", "fs", "signal"],
    &["observe", "concurrent", "server", "process", "http"],
    &["monkey"],
];

/// The same inside the hub. Its door, `hub/mod.rs`, opens on all of them.
const HUB: &[&[&str]] = &[
    &["ticket", "dice", "heap", "wheel"],
    &["line", "run_queue", "timers", "holds", "inbox", "alarm"],
    &["readiness", "task"],
    &["poller"],
    &["table"],
    &["tasks"],
    &["lookout"],
    &["scheduler"],
    &["current"],
    &["park"],
    &["descriptor", "foreign", "snapshot"],
];

/// Words that only some files may use.
const RESERVED: &[(&str, &[&str])] = &[
    (
        "unsafe",
        &[
            "src/coro/",
            "src/sys/",
            "src/net/raw_fd.rs",
            "src/fs/raw_fd.rs",
            "src/process/pre_exec.rs",
            "src/monkey/",
        ],
    ),
    ("libc", &["src/sys/", "src/monkey/"]),
    ("tracing", &["src/trace.rs"]),
    ("mio", &["src/hub/poller.rs", "src/hub/inbox.rs"]),
    ("socket2", &["src/net/"]),
    ("signal_hook", &["src/signal/"]),
    ("ureq", &["src/http/"]),
    ("corosensei", &["src/coro/"]),
];

/// Lines of code in a file, without comments, empty ones, and unit tests.
const LONGEST: usize = 400;

const ROOF: &str = "src/lib.rs";

// ── The house as it stands ──

/// One source file.
struct Source {
    /// From the root of the package: `src/hub/park.rs`.
    path: String,
    text: String,
    /// What is left of the text without comments and literals, cut up.
    tokens: Vec<String>,
}

impl Source {
    fn new(path: &str, text: &str) -> Source {
        let tokens = tokens(&without_comments_and_literals(text));
        Source { path: path.to_owned(), text: text.to_owned(), tokens }
    }

    /// Where its items live: `["hub", "park"]`; the door of a room is the room itself.
    fn module(&self) -> Vec<String> {
        let path = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut module: Vec<_> = path.split('/').map(str::to_owned).collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        module
    }

    fn room(&self) -> String {
        self.module().first().cloned().unwrap_or_default()
    }

    /// Unit tests, which stand at the end of a file, are not counted.
    fn lines_of_code(&self) -> usize {
        let code = without_comments_and_literals(&self.text);
        let code = code.split("#[cfg(test)]\nmod ").next().expect("split yields something");
        code.lines().filter(|line| !line.trim().is_empty()).count()
    }
}

struct House(Vec<Source>);

impl House {
    /// What is on disk.
    fn built() -> House {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut sources = Vec::new();
        collect(&root.join("src"), root, &mut sources);
        assert!(sources.iter().any(|source| source.path == ROOF), "this is not the whole house");
        House(sources)
    }

    /// A house of paper, to show that a rule sees a fault.
    fn of(files: &[(&str, &str)]) -> House {
        House(files.iter().map(|(path, text)| Source::new(path, text)).collect())
    }

    fn rooms(&self) -> impl Iterator<Item = &Source> {
        self.0.iter().filter(|source| source.path != ROOF)
    }
}

fn collect(folder: &Path, root: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, root, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            sources.push(Source::new(&name, &fs::read_to_string(&path).unwrap()));
        }
    }
}

// ── Reading Rust, as far as it is needed ──

/// The text with comments, strings and characters gone; lines stay where they are.
fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = match end_of_comment(&chars, at).or_else(|| end_of_literal(&chars, at)) {
            Some(end) => end,
            None => {
                code.push(chars[at]);
                at += 1;
                // A name is taken as a whole, so that no `r` at its end begins a raw string.
                while is_name(chars[at - 1]) && at < chars.len() && is_name(chars[at]) {
                    code.push(chars[at]);
                    at += 1;
                }
                continue;
            }
        };
        code.extend(chars[at..end].iter().filter(|&&c| c == '\n'));
        code.push(' ');
        at = end;
    }
    code
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn is_word(token: &str) -> bool {
    token.chars().all(is_name)
}

fn starts_with(chars: &[char], at: usize, text: &str) -> bool {
    text.chars().enumerate().all(|(n, c)| chars.get(at + n) == Some(&c))
}

fn end_of_comment(chars: &[char], at: usize) -> Option<usize> {
    if starts_with(chars, at, "//") {
        return Some((at..chars.len()).find(|&n| chars[n] == '\n').unwrap_or(chars.len()));
    }
    if !starts_with(chars, at, "/*") {
        return None;
    }
    let (mut depth, mut at) = (1, at + 2);
    while depth > 0 && at < chars.len() {
        let (change, step) = match (starts_with(chars, at, "/*"), starts_with(chars, at, "*/")) {
            (true, _) => (1, 2),
            (_, true) => (-1, 2),
            _ => (0, 1),
        };
        depth += change;
        at += step;
    }
    Some(at)
}

/// Strings of all kinds, and characters. A lifetime is none.
fn end_of_literal(chars: &[char], at: usize) -> Option<usize> {
    let prefix = (at..).take_while(|&n| matches!(chars.get(n), Some('b' | 'c' | 'r'))).count();
    let mut open = at + prefix;
    let raw = prefix > 0 && chars[open - 1] == 'r';
    let hashes = (open..).take_while(|&n| raw && chars.get(n) == Some(&'#')).count();
    open += hashes;
    let escapes_until = |quote: char, mut n: usize| {
        while n < chars.len() && chars[n] != quote {
            n += if chars[n] == '\\' { 2 } else { 1 };
        }
        n + 1
    };
    match chars.get(open) {
        Some('"') if raw => {
            let close = format!("\"{}", "#".repeat(hashes));
            let found = (open + 1..chars.len()).find(|&n| starts_with(chars, n, &close));
            Some(found.map_or(chars.len(), |n| n + close.len()))
        }
        Some('"') if prefix <= 1 => Some(escapes_until('"', open + 1)),
        Some('\'') if prefix <= 1 && !raw => {
            let escaped = chars.get(open + 1) == Some(&'\\');
            let one = chars.get(open + 2) == Some(&'\'');
            (escaped || one).then(|| escapes_until('\'', open + 1))
        }
        _ => None,
    }
}

/// Names, `::`, and everything else character by character.
fn tokens(code: &str) -> Vec<String> {
    let chars: Vec<char> = code.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let len = match chars[at] {
            c if is_name(c) => (at..chars.len()).take_while(|&n| is_name(chars[n])).count(),
            ':' if starts_with(&chars, at, "::") => 2,
            _ => 1,
        };
        if !chars[at].is_whitespace() {
            tokens.push(chars[at..at + len].iter().collect());
        }
        at += len;
    }
    tokens
}

/// A path that a source names, from the root of the crate: `["hub", "ticket", "Ticket"]`.
struct Named {
    path: Vec<String>,
    /// Brought in by `use`, under the last name, so that it can be named through this module.
    imported: bool,
    /// By way of `$crate`, from a macro that other crates expand.
    by_macro: bool,
}

/// Every path of `source`, as seen from the module it stands in.
fn named_by(source: &Source) -> Vec<Named> {
    let tokens = &source.tokens;
    let mut found = Vec::new();
    let mut module = source.module();
    // The inline modules around the present token, by the depth of braces at which they end.
    let mut inside: Vec<usize> = Vec::new();
    let (mut depth, mut at) = (0, 0);
    let mut in_use = false;
    while at < tokens.len() {
        let next = tokens.get(at + 1).map(String::as_str);
        match tokens[at].as_str() {
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                module.push(tokens[at + 1].clone());
                inside.push(depth);
                (at, depth) = (at + 2, depth + 1);
            }
            "{" => depth += 1,
            "}" => {
                depth -= 1;
                if inside.last() == Some(&depth) {
                    inside.pop();
                    module.pop();
                }
            }
            "use" if next == Some("<") => {} // what an opaque type captures
            "use" => in_use = true,
            ";" => in_use = false,
            start @ ("crate" | "super" | "self") if next == Some("::") => {
                let prefix = if start == "crate" { Vec::new() } else { module.clone() };
                let at_start = if start == "super" { at } else { at + 2 };
                let by_macro = at > 0 && tokens[at - 1] == "$";
                let mut paths = Vec::new();
                at = tree(tokens, at_start, prefix, &mut paths) - 1;
                found.extend(paths.into_iter().map(|path| Named {
                    path,
                    imported: in_use,
                    by_macro,
                }));
            }
            name if is_word(name) && (next == Some("::") || at > 0 && tokens[at - 1] == "use") => {
                // A child module, or something else (another crate, a type), which is no file and
                // comes out as a part of this one.
                let mut paths = Vec::new();
                at = tree(tokens, at, module.clone(), &mut paths) - 1;
                let by_macro = false;
                found.extend(paths.into_iter().map(|path| Named {
                    path,
                    imported: in_use,
                    by_macro,
                }));
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Reads one tree of paths, `a::{b, c::d as e}`, and returns where it ends.
fn tree(
    tokens: &[String],
    mut at: usize,
    prefix: Vec<String>,
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix;
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = tree(tokens, at, path.clone(), paths);
                    at += usize::from(tokens.get(at).is_some_and(|token| token == ","));
                }
                return at + 1;
            }
            Some("super") => drop(path.pop()),
            Some("self") => {}
            Some(name) if is_word(name) => path.push(name.to_owned()),
            Some("*") => {}
            _ => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    if tokens.get(at).is_some_and(|token| token == "as") {
        at += 2;
    }
    paths.push(path);
    at
}

// ── Rule: down only ──

fn floor_of(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}

fn breaches_of_the_floors(house: &House) -> BTreeSet<String> {
    let mut breaches = BTreeSet::new();
    for source in house.rooms() {
        let room = source.room();
        let Some(floor) = floor_of(&room) else {
            breaches.insert(format!("{} stands on no floor", source.path));
            continue;
        };
        for Named { path, by_macro, .. } in named_by(source) {
            let Some(other) = path.first().filter(|other| **other != room) else { continue };
            match floor_of(other) {
                Some(theirs) if theirs < floor => {}
                Some(theirs) => {
                    let path = &source.path;
                    breaches
                        .insert(format!("{path} (floor {floor}) names {other} (floor {theirs})"));
                }
                // Other crates have no rooms to name: a macro for them goes through the roof.
                None if by_macro => {}
                None => drop(breaches.insert(format!("{} names {other} on the roof", source.path))),
            }
        }
    }
    breaches
}

#[test]
fn smoke() {
    // The reader of sources reads what it should and nothing else.
    let text = r##"
        //! crate::comment
        /* crate::block /* crate::nested */ */
        use crate::{a, b::{self, C as D}};
        use child::{Thing, other::*};
        const S: &str = "crate::string \" crate::still";
        const R: &str = r#"crate::raw " "#;
        const C: [char; 3] = ['"', '\'', 'x'];
        fn f<'a>(x: &'a self::local::T) -> crate::d::E { $crate::e::f!() }
        fn g() -> impl Sized + use<> { h() }
        mod inner { use super::sibling; fn g() { super::super::up() } }
        impl X { fn h(&self) { self.field; pub(crate) fn i() {} } }
        fn j() { below::<T>::stairs(below::again) }
    "##;
    let source = Source::new("src/room/file.rs", text);
    let paths: Vec<_> = named_by(&source).iter().map(|named| named.path.join("::")).collect();
    let expected = [
        "a",
        "b",
        "b::C",
        "room::file::child::Thing",
        "room::file::child::other",
        "room::file::local::T",
        "d::E",
        "e::f",
        "room::file::sibling",
        "room::up",
        "room::file::below",
        "room::file::below::again",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn rooms_name_only_lower_floors_and_themselves() {
    assert_eq!(breaches_of_the_floors(&House::built()), BTreeSet::new());
}

#[test]
fn a_breach_of_the_floors_is_seen() {
    let breaches = |text| {
        let files = [("src/hub/task.rs", text), ("src/net/tcp.rs", ""), ("src/sys.rs", "")];
        breaches_of_the_floors(&House::of(&files)).len()
    };
    assert_eq!(breaches("use crate::sys::Fd; use super::ticket; use std::io; use slab::Slab;"), 0);
    assert_eq!(breaches("use crate::net::TcpStream;"), 1, "above");
    assert_eq!(breaches("fn f() { crate::net::tcp::g() }"), 1, "without an import");
    assert_eq!(breaches("use super::super::net;"), 1, "by the back stairs");
    assert_eq!(
        breaches("mod tests { use crate::{error::E, greenlet::spawn}; }"),
        1,
        "in tests too"
    );
    assert_eq!(breaches("fn f() { crate::spawn() }"), 1, "over the roof");
    assert_eq!(breaches("macro_rules! m { () => { $crate::spawn() } }"), 0);
    let beside = House::of(&[("src/source.rs", "use crate::greenlet::spawn;")]);
    assert_eq!(breaches_of_the_floors(&beside).len(), 1, "beside it");
    let unplanned = House::of(&[("src/attic.rs", "")]);
    assert_eq!(breaches_of_the_floors(&unplanned).len(), 1, "on no floor");
}

// ── Rule: the order inside the hub ──

fn place_in_the_hub(file: &str) -> Option<usize> {
    HUB.iter().position(|files| files.contains(&file))
}

fn breaches_of_the_hub(house: &House) -> BTreeSet<String> {
    let mut breaches = BTreeSet::new();
    for source in house.rooms().filter(|source| source.room() == "hub") {
        let module = source.module();
        let Some(file) = module.get(1) else { continue }; // the door
        let Some(place) = place_in_the_hub(file) else {
            breaches.insert(format!("{} has no place in the order", source.path));
            continue;
        };
        for Named { path, .. } in named_by(source) {
            let [room, other, ..] = path.as_slice() else { continue };
            if room != "hub" || other == file {
                continue;
            }
            match place_in_the_hub(other) {
                Some(theirs) if theirs < place => {}
                Some(_) => drop(breaches.insert(format!("{} names {other}", source.path))),
                // Through the door one would see everything.
                None => drop(breaches.insert(format!("{} names hub::{other}", source.path))),
            }
        }
    }
    breaches
}

#[test]
fn files_of_the_hub_name_only_what_is_below_them() {
    assert_eq!(breaches_of_the_hub(&House::built()), BTreeSet::new());
}

#[test]
fn a_breach_of_the_hub_s_order_is_seen() {
    let breaches = |text| breaches_of_the_hub(&House::of(&[("src/hub/task.rs", text)])).len();
    assert_eq!(breaches("use super::ticket::Ticket; use crate::coro::Coro;"), 0);
    assert_eq!(breaches("use super::park::park;"), 1);
    assert_eq!(breaches("use super::{ticket, poller::Poller};"), 1, "beside it");
    assert_eq!(breaches("fn f() { crate::hub::scheduler::g() }"), 1);
    assert_eq!(breaches("use crate::hub::Ticket;"), 1, "through the door");
    let unplanned = House::of(&[("src/hub/extra.rs", "")]);
    assert_eq!(breaches_of_the_hub(&unplanned).len(), 1);
    let door = House::of(&[("src/hub/mod.rs", "pub use park::park;")]);
    assert_eq!(breaches_of_the_hub(&door).len(), 0);
}

// ── Rule: no cycle among files ──

/// Which file uses which.
fn uses(house: &House) -> BTreeMap<&str, BTreeSet<&str>> {
    let files: BTreeMap<Vec<String>, &str> =
        house.0.iter().map(|source| (source.module(), source.path.as_str())).collect();
    // What a module imports can be named through it; the user's edge goes to where it came from.
    let mut imports: BTreeMap<Vec<String>, Vec<String>> = BTreeMap::new();
    for source in &house.0 {
        for Named { path, imported, .. } in named_by(source) {
            if let Some(name) = path.last().filter(|_| imported) {
                let here: Vec<_> = source.module().into_iter().chain([name.clone()]).collect();
                if here != path {
                    imports.insert(here, path);
                }
            }
        }
    }
    let home_of = |mut path: Vec<String>| {
        // As many steps as there are floors is more than any chain of re-exports has.
        for _ in 0..FLOORS.len() {
            match imports.get(&path) {
                Some(source) if !files.contains_key(&path) => path = source.clone(),
                _ => break,
            }
        }
        while !path.is_empty() && !files.contains_key(&path) {
            path.pop();
        }
        files.get(&path).copied()
    };
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for source in house.rooms() {
        let others = uses.entry(&source.path).or_default();
        let homes = named_by(source).into_iter().filter_map(|named| home_of(named.path));
        others.extend(homes.filter(|&other| other != source.path && other != ROOF));
    }
    uses
}

/// Every use that is part of a way from a file back to itself.
fn cycles(house: &House) -> Vec<String> {
    let uses = uses(house);
    let leads_to = |start: &str, end: &str| {
        let (mut seen, mut open) = (BTreeSet::from([start]), vec![start]);
        while let Some(file) = open.pop() {
            if file == end {
                return true;
            }
            open.extend(uses[file].iter().filter(|&&other| seen.insert(other)));
        }
        false
    };
    let pairs =
        uses.iter().flat_map(|(&file, others)| others.iter().map(move |&other| (file, other)));
    pairs
        .filter(|&(file, other)| leads_to(other, file))
        .map(|(file, other)| format!("{file} uses {other}"))
        .collect()
}

#[test]
fn no_file_uses_itself_by_way_of_others() {
    assert_eq!(cycles(&House::built()), [""; 0]);
}

#[test]
fn a_cycle_is_seen() {
    let cycles = |files: &[(&str, &str)]| cycles(&House::of(files));
    let down = [
        ("src/io/mod.rs", "mod source; mod kind; pub use source::Io;"),
        ("src/io/source.rs", "use super::kind::Kind;"),
        ("src/io/kind.rs", ""),
        ("src/net/mod.rs", "use crate::io::Io;"),
    ];
    assert_eq!(cycles(&down), [""; 0]);
    let siblings = [
        ("src/io/a.rs", "use super::b::B; use super::c;"),
        ("src/io/b.rs", "fn f() { super::a::g() }"),
        ("src/io/c.rs", ""),
    ];
    let both_ways = ["src/io/a.rs uses src/io/b.rs", "src/io/b.rs uses src/io/a.rs"];
    assert_eq!(cycles(&siblings), both_ways);
    let with_the_door =
        [("src/io/mod.rs", "pub use a::A; pub struct B;"), ("src/io/a.rs", "use super::B;")];
    assert_eq!(cycles(&with_the_door).len(), 2);
    let by_a_path = [("src/io/mod.rs", "fn f() { a::g() }"), ("src/io/a.rs", "use super::f;")];
    assert_eq!(cycles(&by_a_path).len(), 2, "without an import");
    let through_the_door = [
        ("src/io/mod.rs", "pub use {a::A, b::B};"),
        ("src/io/a.rs", "use super::B;"),
        ("src/io/b.rs", ""),
    ];
    assert_eq!(cycles(&through_the_door), [""; 0], "B is at home in b");
    let of_three = [
        ("src/a.rs", "use crate::b;"),
        ("src/b.rs", "use crate::c;"),
        ("src/c.rs", "use crate::a::X;"),
    ];
    assert_eq!(cycles(&of_three).len(), 3);
}

// ── Rule: words that only some may use ──

fn misused_words(house: &House) -> BTreeSet<String> {
    let mut misused = BTreeSet::new();
    for source in &house.0 {
        for (word, allowed) in RESERVED {
            let may = allowed.iter().any(|place| source.path.starts_with(place));
            if !may && source.tokens.iter().any(|token| token == word) {
                misused.insert(format!("{} says {word}", source.path));
            }
        }
    }
    misused
}

#[test]
fn reserved_words_stay_in_their_rooms() {
    assert_eq!(misused_words(&House::built()), BTreeSet::new());
}

#[test]
fn a_misused_word_is_seen() {
    let misused = |path, text| misused_words(&House::of(&[(path, text)])).len();
    for text in [
        "fn f() { unsafe { g() } }",
        "use libc::c_int;",
        "fn f() { tracing::info!() }",
        "use mio::Token;",
        "use {std::io, socket2::Socket};",
        "type C = corosensei::Coroutine<(), (), ()>;",
    ] {
        assert_eq!(misused("src/greenlet/spawn.rs", text), 1, "{text}");
    }
    assert_eq!(misused("src/lib.rs", "unsafe fn f() {}"), 1);
    assert_eq!(misused("src/greenlet/mod.rs", "#![forbid(unsafe_code)] // libc:: \n"), 0);
    assert_eq!(misused("src/sys/memory.rs", "unsafe { libc::mmap() }"), 0);
    assert_eq!(misused("src/net/tcp.rs", "unsafe {}"), 1);
    assert_eq!(misused("src/net/raw_fd.rs", "unsafe {}"), 0);
    assert_eq!(misused("src/hub/scheduler.rs", "use mio::Poll;"), 1);
}

// ── Rule: the roof holds nothing of its own ──

/// The first words of items of `lib.rs` that are neither modules nor imports.
fn items_on_the_roof(house: &House) -> Vec<String> {
    let roof = house.0.iter().filter(|source| source.path == ROOF);
    roof.flat_map(|source| foreign_items(&source.tokens)).collect()
}

fn foreign_items(tokens: &[String]) -> Vec<String> {
    let mut foreign = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        at = after_attributes(tokens, at);
        at = after_visibility(tokens, at);
        let Some(keyword) = tokens.get(at) else { break };
        let end = end_of_item(tokens, at);
        match keyword.as_str() {
            "use" | "compile_error" => {}
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                foreign.extend(foreign_items(&tokens[at + 3..end - 1]));
            }
            "mod" => {}
            _ => foreign.push(tokens[at..end.min(at + 4)].join(" ")),
        }
        at = end;
    }
    foreign
}

fn after_attributes(tokens: &[String], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|token| token == "#") {
        let open = (at..).find(|&n| tokens[n] == "[").expect("an attribute has brackets");
        at = after_closing(tokens, open);
    }
    at
}

fn after_visibility(tokens: &[String], at: usize) -> usize {
    match tokens.get(at).map(String::as_str) {
        Some("pub") if tokens.get(at + 1).is_some_and(|token| token == "(") => {
            after_closing(tokens, at + 1)
        }
        Some("pub") => at + 1,
        _ => at,
    }
}

/// Behind the `;` or the last brace of the item that begins at `at`.
fn end_of_item(tokens: &[String], mut at: usize) -> usize {
    let is_use = tokens[at] == "use";
    while at < tokens.len() {
        match tokens[at].as_str() {
            ";" => return at + 1,
            "{" if !is_use => return after_closing(tokens, at),
            "(" | "[" | "{" => at = after_closing(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Behind the bracket that closes the one at `open`.
fn after_closing(tokens: &[String], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

#[test]
fn the_roof_has_no_items_of_its_own() {
    assert_eq!(items_on_the_roof(&House::built()), [""; 0]);
}

#[test]
fn an_item_on_the_roof_is_seen() {
    let items = |text| items_on_the_roof(&House::of(&[(ROOF, text)]));
    let clean = r#"
        //! Guide.
        #![warn(missing_docs)]
        #[cfg(panic = "abort")]
        compile_error!("needs unwinding");
        mod error;
        pub(crate) mod hub;
        /// Doors.
        pub mod net { pub use crate::socket::{Tcp, Udp}; }
        pub use self::hub::{Hub, Remote as Door};
    "#;
    assert_eq!(items(clean), [""; 0]);
    assert_eq!(items("mod a; pub fn spawn() { b(); } use c::d;"), ["fn spawn ( )"]);
    assert_eq!(items("pub mod net { pub struct Tcp; }"), ["struct Tcp ;"]);
    assert_eq!(items("type A = B; #[macro_export] macro_rules! m { () => {} }").len(), 2);
}

// ── Rules: each file says what it is for, and none is too long ──

fn without_introduction(house: &House) -> Vec<&str> {
    let silent = house.0.iter().filter(|source| !source.text.starts_with("//! "));
    silent.map(|source| source.path.as_str()).collect()
}

#[test]
fn every_file_begins_by_saying_what_it_is_for() {
    assert_eq!(without_introduction(&House::built()), [""; 0]);
}

#[test]
fn a_missing_introduction_is_seen() {
    let house = House::of(&[("src/a.rs", "use b;\n//! late"), ("src/b.rs", "//! Says it.\n")]);
    assert_eq!(without_introduction(&house), ["src/a.rs"]);
}

fn too_long(house: &House) -> Vec<String> {
    let lengths = house.0.iter().map(|source| (source, source.lines_of_code()));
    let long = lengths.filter(|(_, lines)| *lines > LONGEST);
    long.map(|(source, lines)| format!("{}: {lines} lines", source.path)).collect()
}

#[test]
fn no_file_is_too_long() {
    assert_eq!(too_long(&House::built()), [""; 0]);
}

#[test]
fn a_file_that_is_too_long_is_seen() {
    let code = "fn f() {}\n".repeat(LONGEST);
    let talk = "// Explains.\n\n/* And\nmore. */\n".repeat(LONGEST);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{code}}}\n");
    let longest = House::of(&[("src/a.rs", &format!("{talk}{code}{tests}"))]);
    assert_eq!(too_long(&longest), [""; 0], "comments, empty lines and tests are free");
    let longer = House::of(&[("src/a.rs", &format!("{code}fn one_more() {{}}"))]);
    assert_eq!(too_long(&longer), ["src/a.rs: 401 lines"]);
}

/// mio's log lines would run a logger of the user's while the hub is borrowed.
#[test]
fn mio_does_not_log() {
    let manifest = include_str!("../Cargo.toml");
    let line = manifest.lines().find(|line| line.starts_with("mio = ")).unwrap();
    assert!(line.contains("default-features = false") && !line.contains("log"), "{line}");
}
