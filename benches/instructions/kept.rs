//! The figures that are kept, and what they are good for.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

use super::{Complaint, HOW_TO_KEEP, OPERATIONS};

/// By so much may a figure differ from what is kept.
const TOLERANCE: f64 = 0.03;

/// And by so much, whatever is kept: three per cent of nothing are nothing.
const LEAST: f64 = 0.015;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");

const HEAD: &str = "\
# What the basic operations take in user space, each: instructions, system calls, readings of the
# clock. Counted and compared by benches/instructions.rs; written by
#     cargo bench --bench instructions -- --keep
# Good for this setting only:
";

/// What one operation takes: instructions, system calls, readings of the clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figures([f64; 3]);

impl Figures {
    const NAMES: [&str; 3] = ["instructions", "system calls", "readings of the clock"];

    /// As precise as the file is. (Zero is added because it makes a zero of what was rounded to -0.)
    pub(crate) fn each(f: impl FnMut(usize) -> f64) -> Figures {
        Figures(std::array::from_fn(f).map(|figure| (figure * 100.0).round() / 100.0 + 0.0))
    }
}

/// What figures depend on besides the program.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Setting(Vec<(String, String)>);

impl Setting {
    /// That of the program that runs.
    pub(crate) fn here() -> Result<Setting, Complaint> {
        let first_line = |command: &mut Command| -> Result<String, Complaint> {
            let output = String::from_utf8(command.output()?.stdout)?;
            Ok(output.lines().next().unwrap_or_default().to_owned())
        };
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let env = if cfg!(target_env = "gnu") { "gnu" } else { "other" };
        let program = env::current_exe()?; // target/release/deps/instructions-0123456789abcdef
        let profile = program.ancestors().nth(2).and_then(Path::file_name).unwrap_or_default();
        let pairs = [
            ("compiler", first_line(Command::new(rustc).arg("--version"))?),
            ("flags", flags()),
            ("profile", profile.to_string_lossy().into_owned()),
            ("target", format!("{}-{}-{env}", env::consts::ARCH, env::consts::OS)),
            ("libc", first_line(Command::new("getconf").arg("GNU_LIBC_VERSION"))?),
        ];
        Ok(Setting(pairs.map(|(key, value)| (key.to_owned(), value)).into()))
    }

    /// What is not the same there, if anything.
    pub(crate) fn difference_to(&self, other: &Setting) -> Option<String> {
        let ours = |key: &str| self.0.iter().find(|(ours, _)| ours == key).map(|(_, value)| value);
        let (key, here) = other.0.iter().find(|(key, value)| ours(key) != Some(value))?;
        let kept = ours(key).map_or("nothing", String::as_str);
        Some(format!("the figures kept are for {key} \"{kept}\", and this is \"{here}\""))
    }
}

/// What the environment asks of the compiler, so far as it changes what is compiled. Information for
/// debuggers does not; nor, with one unit a crate, does optimising across the units of each.
fn flags() -> String {
    let is_harmless = |key: &str, value: &str| {
        key.ends_with("_DEBUG") || key.ends_with("_LTO") && ["off", "false"].contains(&value)
    };
    let asks = |key: &str| {
        key.ends_with("RUSTFLAGS")
            || key.starts_with("CARGO_PROFILE_BENCH_")
            || key.starts_with("CARGO_PROFILE_RELEASE_")
    };
    let mut flags: Vec<_> = env::vars()
        .filter(|(key, value)| asks(key) && !value.is_empty() && !is_harmless(key, value))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    flags.sort();
    flags.join(" ")
}

/// The file.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) setting: Setting,
    figures: Vec<(String, Figures)>,
}

impl Kept {
    pub(crate) fn read() -> Result<Kept, Complaint> {
        let mut kept = Kept::default();
        if !fs::exists(FILE)? {
            return Ok(kept);
        }
        for line in fs::read_to_string(FILE)?.lines() {
            if line.is_empty() || line.starts_with(['#', '[']) {
                continue;
            }
            let wrong = || format!("{FILE}: no line of this form is known: {line}");
            let (key, value) = line.split_once(" = ").ok_or_else(wrong)?;
            let key = key.trim().trim_matches('"').to_owned();
            match value.strip_prefix('[').and_then(|list| list.strip_suffix(']')) {
                Some(list) => {
                    let numbers = list.split(',').map(|number| number.trim().parse());
                    let numbers = numbers.collect::<Result<Vec<_>, _>>().map_err(|_| wrong())?;
                    let figures = numbers.try_into().map_err(|_| wrong())?;
                    kept.figures.push((key, Figures(figures)));
                }
                None => kept.setting.0.push((key, value.trim_matches('"').to_owned())),
            }
        }
        Ok(kept)
    }

    fn of(&self, name: &str) -> Option<Figures> {
        self.figures.iter().find(|(kept, _)| kept == name).map(|(_, figures)| *figures)
    }

    /// Prints what was counted beside what is kept. Returns what differs by too much.
    #[expect(clippy::print_stdout, reason = "see the program's own")]
    pub(crate) fn compare(
        &self,
        counted: &[(String, Figures)],
        is_wanted: impl Fn(&str) -> bool,
    ) -> Vec<String> {
        let mut complaints = Vec::new();
        let [instructions, calls, readings] = Figures::NAMES;
        println!(
            "\n{:<36} {instructions:>12} {:>10} {:>8} {calls:>13} {readings:>22}",
            "each", "kept", "change"
        );
        for (name, figures) in counted {
            let [instructions, calls, readings] = figures.0;
            let kept = self.of(name);
            let beside = kept.map_or(("none".to_owned(), String::new()), |kept| {
                (format!("{:.2}", kept.0[0]), change(kept.0[0], instructions))
            });
            println!(
                "{name:<36} {instructions:>12.2} {:>10} {:>8} {calls:>13.2} {readings:>22.2}",
                beside.0, beside.1
            );
            match kept {
                Some(kept) => complaints.extend(differences(name, kept, *figures)),
                None => complaints.push(format!("{name}: no figures of it are kept")),
            }
        }
        let is_counted = |name: &str| counted.iter().any(|(counted, _)| counted == name);
        let gone = self.figures.iter().filter(|(name, _)| is_wanted(name) && !is_counted(name));
        complaints.extend(gone.map(|(name, _)| format!("{name}: kept, but nothing has this name")));
        complaints
    }

    /// Writes what was counted: all of it, or in the place of what has the same names.
    pub(crate) fn replace(
        mut self,
        setting: Setting,
        counted: Vec<(String, Figures)>,
        is_all: bool,
    ) -> Result<(), Complaint> {
        if is_all {
            self = Kept { setting, figures: counted };
        } else if let Some(difference) = self.setting.difference_to(&setting) {
            return Err(format!("{difference}: keep all figures: {HOW_TO_KEEP}").into());
        } else {
            self.figures.retain(|(name, _)| OPERATIONS.iter().any(|one| one.name == name));
            for (name, figures) in counted {
                match self.figures.iter_mut().find(|(kept, _)| *kept == name) {
                    Some((_, kept)) => *kept = figures,
                    None => self.figures.push((name, figures)),
                }
            }
        }
        let mut text = HEAD.to_owned();
        for (key, value) in &self.setting.0 {
            writeln!(text, "{key} = \"{value}\"")?;
        }
        text.push_str("\n[figures]\n");
        for (name, Figures([instructions, calls, readings])) in &self.figures {
            let name = format!("\"{name}\"");
            writeln!(text, "{name:<38} = [{instructions:.2}, {calls:.2}, {readings:.2}]")?;
        }
        Ok(fs::write(FILE, text)?)
    }
}

/// What is too different, in words.
fn differences(name: &str, kept: Figures, counted: Figures) -> Vec<String> {
    let pairs = std::iter::zip(Figures::NAMES, std::iter::zip(kept.0, counted.0));
    pairs
        .filter(|(_, (kept, counted))| (counted - kept).abs() > (kept * TOLERANCE).max(LEAST))
        .map(|(what, (kept, counted))| {
            let change = change(kept, counted);
            let allowed = TOLERANCE * 100.0;
            format!("{name}: {what} {counted:.2}, kept {kept:.2}: {change} ({allowed} % allowed)")
        })
        .collect()
}

fn change(kept: f64, counted: f64) -> String {
    if kept == 0.0 {
        return if counted == 0.0 { "+0.0 %".to_owned() } else { "new".to_owned() };
    }
    format!("{:+.1} %", (counted / kept - 1.0) * 100.0)
}
