//! Programs that have the crate among their dependencies, linked in every way there is: the functions
//! take their places in all of them, whoever links, optimised or not.
//!
//! The programs are in the folder beside this file. A package is made of them in the directory of
//! builds, and built there without the network. That takes a minute, so these tests are ignored unless
//! they are asked for: `cargo test --test monkey_link -- --ignored`.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::{env, fs};

const PROGRAMS: [&str; 3] = ["patches", "names", "clash"];

/// The package, made once for all tests of this file. Under a lock, as cargo would use one.
static PACKAGE: LazyLock<Mutex<PathBuf>> = LazyLock::new(|| {
    let house = Path::new(env!("CARGO_MANIFEST_DIR"));
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join("monkey_link");
    fs::create_dir_all(package.join("src/bin")).unwrap();
    for program in PROGRAMS {
        let program = format!("{program}.rs");
        let source = house.join("tests/monkey_link").join(&program);
        fs::copy(source, package.join("src/bin").join(program)).unwrap();
    }
    fs::copy(house.join("Cargo.lock"), package.join("Cargo.lock")).unwrap();
    let manifest = format!(
        "[package]\n\
         name = \"monkey-link\"\n\
         version = \"0.0.0\"\n\
         edition = \"2024\"\n\
         [dependencies]\n\
         greenloom = {{ path = {house:?}, features = [\"monkey\"] }}\n\
         [profile.dev]\n\
         debug = false\n\
         [profile.fat]\n\
         inherits = \"release\"\n\
         lto = \"fat\"\n\
         codegen-units = 1\n\
         [workspace]\n"
    );
    fs::write(package.join("Cargo.toml"), manifest).unwrap();
    Mutex::new(package)
});

/// Who links.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Linker {
    /// Whoever this compiler takes by itself: rust-lld, on x86_64 since Rust 1.90.
    Default,
    Gnu,
}

impl Linker {
    fn flags(self) -> &'static [&'static str] {
        match self {
            Linker::Gnu if cfg!(target_arch = "x86_64") => {
                &["-Clinker-features=-lld", "-Clink-arg=-fuse-ld=bfd"]
            }
            Linker::Gnu => &["-Clink-arg=-fuse-ld=bfd"],
            Linker::Default => &[],
        }
    }
}

fn build(package: &Path, program: &str, profile: &str, linker: Linker) -> Output {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .current_dir(package)
        .args(["rustc", "--offline", "--quiet", "--profile", profile, "--bin", program, "--"])
        .args(linker.flags())
        .env("CARGO_TARGET_DIR", package.join("target"))
        .env("CARGO_INCREMENTAL", "0");
    cargo.output().unwrap()
}

/// Builds both programs and runs them.
fn links_and_runs(profile: &str, linker: Linker) {
    let package = PACKAGE.lock().unwrap_or_else(PoisonError::into_inner);
    for program in ["patches", "names"] {
        let built = build(&package, program, profile, linker);
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "{program}, {profile}, {linker:?}: {errors}");
        let folder = if profile == "dev" { "debug" } else { profile };
        let file = package.join("target").join(folder).join(program);

        // lld leaves its name.
        let is_lld = fs::read(&file).unwrap().windows(11).any(|bytes| bytes == b"Linker: LLD");
        assert!(!(is_lld && linker == Linker::Gnu));

        // Shared libraries find the crate's function there, and so do the program's own calls.
        let nm =
            Command::new("nm").args(["--dynamic", "--defined-only"]).arg(&file).output().unwrap();
        let names = String::from_utf8(nm.stdout).unwrap();
        assert!(names.lines().any(|line| line.ends_with(" T recv")), "{program}: {names}");

        let ran = Command::new(&file).output().unwrap();
        let errors = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{program}, {profile}, {linker:?}: {errors}");
        assert_eq!(ran.stdout, b"ok\n", "{program}");
    }
}

fn does_not_link(linker: Linker, complaint: &str) {
    let package = PACKAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let built = build(&package, "clash", "dev", linker);
    let errors = String::from_utf8_lossy(&built.stderr);
    assert!(!built.status.success());
    assert!(errors.contains(complaint), "{errors}");
}

#[test]
#[ignore = "takes long: builds a package of its own"]
fn debug() {
    links_and_runs("dev", Linker::Default);
    links_and_runs("dev", Linker::Gnu);
}

#[test]
#[ignore = "takes long: builds a package of its own"]
fn release() {
    links_and_runs("release", Linker::Default);
    links_and_runs("release", Linker::Gnu);
}

#[test]
#[ignore = "takes long: builds a package of its own"]
fn fat_lto_of_one_unit() {
    links_and_runs("fat", Linker::Default);
    links_and_runs("fat", Linker::Gnu);
}

/// The documentation shows what the linkers say then.
#[test]
#[ignore = "takes long: builds a package of its own"]
fn two_of_a_name_do_not_link() {
    let docs = include_str!("../src/monkey/mod.rs");
    for (linker, complaint) in [
        (Linker::Default, "duplicate symbol: recv"),
        (Linker::Gnu, "multiple definition of `recv'"),
    ] {
        assert!(docs.contains(complaint));
        if linker == Linker::Gnu || cfg!(target_arch = "x86_64") {
            does_not_link(linker, complaint);
        }
    }
}
