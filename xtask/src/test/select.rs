//! Which test targets contain a test of some name, found in the sources, so that nothing is compiled or set up for the
//! others.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::process::{cargo, output};

/// One test executable of the workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The package.
    pub package: String,
    /// `lib`, `bin` or `test`.
    pub kind: String,
    /// Cargo's name of it.
    pub name: String,
    /// Its root source file.
    pub source: PathBuf,
}

impl Target {
    /// The name of a `[[test]]`, otherwise `lib` or `bin`.
    pub fn short_name(&self) -> &str {
        if self.kind == "test" { &self.name } else { &self.kind }
    }

    /// The arguments by which `cargo test` runs this target alone.
    pub fn arguments(&self) -> Vec<String> {
        match self.kind.as_str() {
            "lib" => vec!["--lib".into()],
            kind => vec![format!("--{kind}"), self.name.clone()],
        }
    }

    /// The paths of its tests, as `cargo test -- --list` prints them. Tests that a macro generates are not found.
    ///
    /// # Errors
    /// If a source file can't be read.
    pub fn tests(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        let folder = self.source.parent().unwrap_or(Path::new("."));
        scan(&self.source, folder, &[], &mut found)?;
        Ok(found)
    }
}

/// All test targets of the workspace.
///
/// # Errors
/// If `cargo metadata` fails.
pub fn targets() -> Result<Vec<Target>> {
    let text = output(cargo().args(["metadata", "--no-deps", "--offline", "--format-version", "1"]))?;
    let metadata: Value =
        serde_json::from_str(&text).map_err(|error| Error::Refused(format!("cargo metadata: {error}")))?;
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for package in list(&metadata, "packages") {
        for target in list(&package, "targets").into_iter().filter(|target| target["test"] == true) {
            found.push(Target {
                package: word(&package["name"]),
                kind: word(&target["kind"][0]),
                name: word(&target["name"]),
                source: word(&target["src_path"]).into(),
            });
        }
    }
    Ok(found)
}

/// Adds the tests of a file and of the modules it declares. `folder` is where its modules' files are.
///
/// The sources are formatted by rustfmt, so a module ends with a brace at the indentation at which it began.
fn scan(file: &Path, folder: &Path, modules: &[String], found: &mut Vec<String>) -> Result<()> {
    let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
    let mut open: Vec<(usize, String)> = Vec::new();
    let (mut attribute, mut path) = (false, None);
    for line in text.lines() {
        let code = line.trim_start();
        let indentation = line.len() - code.len();
        if code == "}" && open.last().is_some_and(|(at, _)| *at == indentation) {
            open.pop();
            continue;
        }
        let inside = || modules.iter().chain(open.iter().map(|(_, name)| name)).cloned().collect::<Vec<_>>();
        if code.starts_with("#[test]") || code.starts_with("#[tokio::test") {
            attribute = true;
        } else if let Some(name) = code.strip_prefix("#[path = \"") {
            path = name.split('"').next().map(str::to_owned);
        } else if let Some(name) = declared(code, "fn ") {
            if std::mem::take(&mut attribute) {
                found.push([inside(), vec![name]].concat().join("::"));
            }
        } else if let Some(name) = listed(code) {
            found.push(name);
        } else if let Some(name) = declared(code, "mod ") {
            if code.ends_with('{') {
                open.push((indentation, name));
            } else if code.ends_with(';') {
                let below = inside().iter().skip(modules.len()).fold(folder.to_path_buf(), |at, name| at.join(name));
                let file = match path.take() {
                    Some(path) => file.parent().unwrap_or(folder).join(path),
                    None => Some(below.join(format!("{name}.rs")))
                        .filter(|file| file.is_file())
                        .unwrap_or_else(|| below.join(&name).join("mod.rs")),
                };
                // A module behind a `cfg` may have no file of its own.
                if file.is_file() {
                    scan(&file, &below.join(&name), &[inside(), vec![name]].concat(), found)?;
                }
            }
        }
    }
    Ok(())
}

/// The name that a line declares after `keyword`, whatever its visibility.
fn declared(code: &str, keyword: &str) -> Option<String> {
    let mut rest = code;
    if let Some(after) = rest.strip_prefix("pub") {
        rest = match after.strip_prefix('(') {
            Some(scope) => scope.split_once(") ")?.1,
            None => after.strip_prefix(' ')?,
        };
    }
    for word in ["async ", "unsafe "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix(keyword)?;
    let name: String = name.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    (!name.is_empty()).then_some(name)
}

/// The test that a line lists for a target with its own harness (`tests/e2e/cluster`): `test!(module::name…)`.
fn listed(code: &str) -> Option<String> {
    let path = code.strip_prefix("test!(")?;
    let path = path.split([')', ',']).next()?;
    path.rsplit("::").next().map(str::to_owned)
}

/// The targets of `all` that the options choose and that have a test whose path contains `filter`.
///
/// # Errors
/// If there is no such package, target or test.
pub fn select<'a>(
    all: &'a [Target],
    packages: &[String],
    names: &[String],
    filter: Option<&str>,
) -> Result<Vec<&'a Target>> {
    let mut known: Vec<_> = all.iter().map(|target| target.package.as_str()).collect();
    known.dedup();
    if let Some(unknown) = packages.iter().find(|package| !known.contains(&package.as_str())) {
        return Err(Error::Refused(format!("there is no package `{unknown}`; packages: {}", known.join(", "))));
    }
    let chosen = |target: &&Target| {
        (packages.is_empty() || packages.contains(&target.package))
            && (names.is_empty() || (target.kind == "test" && names.contains(&target.name)))
    };
    let within: Vec<_> = all.iter().filter(chosen).collect();
    if let Some(unknown) = names.iter().find(|name| !within.iter().any(|target| target.name == **name)) {
        let mut tests: Vec<_> = all.iter().filter(|t| t.kind == "test").map(|target| target.name.as_str()).collect();
        tests.sort_unstable();
        tests.dedup();
        return Err(Error::Refused(format!("there is no test target `{unknown}`; targets: {}", tests.join(", "))));
    }
    let Some(filter) = filter else { return Ok(within) };
    let (mut matching, mut searched) = (Vec::new(), 0);
    for target in within {
        let tests = target.tests()?;
        searched += tests.len();
        if tests.iter().any(|test| test.contains(filter)) {
            matching.push(target);
        }
    }
    if matching.is_empty() {
        return Err(Error::Refused(format!("none of {searched} tests has `{filter}` in its path (module::test_name)")));
    }
    Ok(matching)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(all: &'a [Target], package: &str, name: &str) -> &'a Target {
        all.iter().find(|target| target.package == package && target.short_name() == name).unwrap()
    }

    #[test]
    fn scan_of_this_program_finds_what_the_harness_lists() {
        let all = targets().unwrap();
        let mut found = find(&all, "xtask", "bin").tests().unwrap();
        found.sort();
        let list = std::process::Command::new(std::env::current_exe().unwrap()).arg("--list").output().unwrap();
        let list = String::from_utf8(list.stdout).unwrap();
        let mut listed: Vec<_> = list.lines().filter_map(|line| line.strip_suffix(": test")).collect();
        listed.sort_unstable();
        assert_eq!(found, listed);
    }

    #[test]
    fn scan_finds_inline_nested_and_listed_tests() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        let root = write(
            "lib.rs",
            "pub mod a;\npub(crate) mod b;\nmod gone;\nfn helper() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    \
             #[should_panic]\n    fn one() {}\n    fn no_test() {}\n    mod deep {\n        #[tokio::test]\n        \
             async fn two() {\n        }\n    }\n}\n#[test]\nfn three() {}\n",
        );
        write("a.rs", "mod c;\n");
        write("a/c.rs", "#[test]\nfn four() {}\n");
        write(
            "b/mod.rs",
            "#[path = \"else.rs\"]\nmod c;\nconst T: &[T] = &[\n    test!(x::five),\n    test!(six, true),\n];\n",
        );
        write("b/else.rs", "#[test]\nfn seven() {}\n");
        let target = Target { package: "p".into(), kind: "lib".into(), name: "p".into(), source: root };
        let expected = ["a::c::four", "b::c::seven", "five", "six", "tests::one", "tests::deep::two", "three"];
        assert_eq!(target.tests().unwrap(), expected);
    }

    #[test]
    fn filter_of_a_recipe_test_selects_only_its_target() {
        let all = targets().unwrap();
        let recipe = find(&all, "simsiam-recipe", "examples");
        let name = recipe.tests().unwrap().remove(0);
        let packages = ["simsiam-recipe".to_owned()];
        assert_eq!(select(&all, &packages, &[], Some(&name)).unwrap(), [recipe]);
        let chosen = select(&all, &[], &["examples".to_owned()], None).unwrap();
        assert_eq!(chosen, [recipe]);
    }

    #[test]
    fn cluster_tests_are_found_without_their_harness() {
        let all = targets().unwrap();
        let cluster = find(&all, "simsiam-tests", "cluster");
        let tests = cluster.tests().unwrap();
        assert!(tests.len() > 10, "{tests:?}");
        let chosen = select(&all, &["simsiam-tests".to_owned()], &[], Some(&tests[0])).unwrap();
        assert!(chosen.contains(&cluster));
    }

    #[test]
    fn unknown_names_are_refused_with_the_known_ones() {
        let all = targets().unwrap();
        let refusal = |packages: &[&str], names: &[&str], filter| {
            let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
            select(&all, &owned(packages), &owned(names), filter).unwrap_err().to_string()
        };
        assert!(refusal(&["recipe"], &[], None).contains("simsiam-recipe"));
        assert!(refusal(&[], &["no_such"], None).contains("bad_files"));
        // Assembled, so that this test does not contain the name it looks for.
        let name = ["no", "such", "test", "anywhere"].join("_");
        assert!(refusal(&[], &[], Some(name.as_str())).contains("none of"));
    }

    #[test]
    fn arguments_run_one_target() {
        let target =
            |kind: &str| Target { package: "p".into(), kind: kind.into(), name: "n".into(), source: PathBuf::new() };
        assert_eq!(target("lib").arguments(), ["--lib"]);
        assert_eq!(target("test").arguments(), ["--test", "n"]);
        assert_eq!(target("bin").arguments(), ["--bin", "n"]);
    }
}
