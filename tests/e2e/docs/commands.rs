//! Commands in the pages: ours must be accepted by our programs, others must name existing things.

use std::fs;
use std::path::Path;

use simsiam_tests::root;

use crate::kubernetes;
use crate::page::{Page, skipped};
use crate::programs;
use crate::shell::Command;

/// What was checked, so that a check that finds nothing is noticed.
#[derive(Default)]
pub struct Count {
    pub programs: usize,
    pub kubernetes: usize,
    pub paths: usize,
}

/// What is wrong with a page's commands.
pub fn faults(page: &Page, count: &mut Count) -> Vec<String> {
    let folders = folders();
    let commands = page.commands();
    let wrong = commands.iter().flat_map(|command| {
        let mut said = called(command, count);
        said.extend(command.words.iter().filter_map(|word| lost(word, &folders, count)));
        let words = command.words.join(" ");
        said.into_iter().map(move |said| page.fault(command.line, &format!("`{words}`: {said}")))
    });
    wrong.collect()
}

fn called(command: &Command, count: &mut Count) -> Vec<String> {
    // Arguments are passed through, and asking for help would build the program.
    let passed_through = |words: &[String]| ["cargo", "xtask", "cluster"].iter().eq(words.iter().take(3));
    let command = match command.words.get(3).map(String::as_str) {
        Some("kubectl" | "helm") if passed_through(&command.words) => {
            &Command { line: command.line, words: command.words[3..].to_vec(), whole: command.whole }
        }
        _ => command,
    };
    if let Some((program, given)) = programs::called(&command.words) {
        // A span that contains only the program's name is no command.
        count.programs += usize::from(!given.is_empty());
        let refusal = programs::refusal(program, command, given);
        return refusal.into_iter().chain(kubernetes::run_settings_faults(given)).collect();
    }
    let check = match command.words[0].as_str() {
        "kubectl" => kubernetes::kubectl_faults,
        "helm" => kubernetes::helm_faults,
        "--set" => return kubernetes::setting_faults(&command.words),
        _ => return Vec::new(),
    };
    count.kubernetes += 1;
    check(&command.words[1..])
}

/// The repository's folders.
fn folders() -> Vec<String> {
    let entries = fs::read_dir(root()).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| !skipped(name)).collect()
}

/// Returns what is wrong with a word that is a path in the repository, which starts with one of its folders.
fn lost(word: &str, folders: &[String], count: &mut Count) -> Option<String> {
    let path = word.rsplit('=').next().unwrap_or(word).trim_start_matches("./").trim_end_matches([',', ';', ':', ')']);
    let (folder, _) = path.split_once('/')?;
    if !folders.iter().any(|there| there == folder) {
        return None;
    }
    count.paths += 1;
    let there = match path.find(['*', '<', '…', '{', '$']) {
        None => root().join(path).exists(),
        Some(open) => matches(path, open),
    };
    (!there).then(|| format!("there is no `{path}`"))
}

/// Whether there is a file for a path with an open part; after a single `*` its end must be right as well.
fn matches(path: &str, open: usize) -> bool {
    let (folder, begin) = path[..open].rsplit_once('/').unwrap_or(("", &path[..open]));
    let rest = &path[open..];
    let end = rest.strip_prefix('*').filter(|end| !end.contains(['*', '/', '<', '…', '{', '$'])).unwrap_or("");
    let names = fs::read_dir(Path::new(&root()).join(folder)).into_iter().flatten().flatten();
    let mut names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.any(|name| name.starts_with(begin) && name.ends_with(end))
}
