//! Commands of our own programs, checked by their parsers: with `--help` appended, a command is parsed completely but not
//! run.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;

use simsiam_tests::{build_program, command, output_of};

use crate::shell::{Command, is_elision, is_placeholder};

/// One of our programs.
#[derive(Clone, Copy)]
pub enum Program {
    Simsiam,
    Xtask,
}

/// Returns the program that a command calls, and its arguments.
pub fn called(words: &[String]) -> Option<(Program, &[String])> {
    let [first, rest @ ..] = words else { return None };
    match (first.as_str(), rest) {
        ("cargo", [second, rest @ ..]) if second == "xtask" => Some((Program::Xtask, rest)),
        (program, _) if program == "simsiam" || program.ends_with("/simsiam") => Some((Program::Simsiam, rest)),
        _ => None,
    }
}

/// What the program has against a command.
pub fn refusal(program: Program, command: &Command, given: &[String]) -> Option<String> {
    let mut given = given.to_vec();
    let help = loop {
        let arguments: Vec<_> = given.iter().map(String::as_str).chain(["--help"]).collect();
        let (code, help, said) = ask(program, &arguments);
        if code == 0 {
            break help;
        }
        match without_placeholder(&given, &said) {
            Some(rest) if rest.is_empty() => return None,
            Some(rest) => given = rest,
            None => return Some(said.split("\n\n").next().unwrap_or_default().replace('\n', " ")),
        }
    };
    let missing = if command.whole { missing(&help, &command.words) } else { Vec::new() };
    (!missing.is_empty()).then(|| format!("expected {} too", missing.join(" and ")))
}

fn ask(program: Program, arguments: &[&str]) -> (i32, String, String) {
    static XTASK: OnceLock<PathBuf> = OnceLock::new();
    output_of(match program {
        Program::Simsiam => command(arguments).output().unwrap(),
        Program::Xtask => {
            let xtask = XTASK.get_or_init(|| build_program("xtask", "xtask"));
            std::process::Command::new(xtask).args(arguments).stdin(Stdio::null()).output().unwrap()
        }
    })
}

/// What was given without the placeholder that the refusal is about; `None` if it is about something else.
fn without_placeholder(given: &[String], said: &str) -> Option<Vec<String>> {
    let word = said.split('\'').nth(1).filter(|word| is_placeholder(word))?;
    let at = given.iter().position(|there| there == word || there.ends_with(&format!("={word}")))?;
    if said.contains("unrecognized subcommand") {
        // Which one it is stays open, and so what it takes.
        return Some(Vec::new());
    }
    let value = said.contains("invalid value");
    let flag = value && given[at] == word && at > 0 && given[at - 1].starts_with('-');
    let from = if flag { at - 1 } else { at };
    (value || is_elision(word)).then(|| [&given[..from], &given[at + 1..]].concat())
}

/// The flags that the line `Usage:` of a help demands and the words have not.
fn missing(help: &str, words: &[String]) -> Vec<String> {
    if words.iter().any(|word| is_elision(word) || word == "--help") {
        return Vec::new();
    }
    let given: BTreeSet<_> = words.iter().map(|word| word.split('=').next().unwrap_or(word)).collect();
    let usage = help.lines().find(|line| line.starts_with("Usage:")).unwrap_or_default();
    let demanded = usage.split_whitespace().filter(|word| word.starts_with("--"));
    let short = |flag: &str| {
        let line = help.lines().find(|line| line.contains(&format!(", {flag} ")))?;
        line.trim_start().split(',').next().map(str::to_owned)
    };
    let absent =
        demanded.filter(|flag| !given.contains(flag) && !short(flag).is_some_and(|s| given.contains(s.as_str())));
    absent.map(str::to_owned).collect()
}
