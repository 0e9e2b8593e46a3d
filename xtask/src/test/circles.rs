//! A test that no two files of a crate use each other, directly or through other files, according to their `use` lines.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::select::targets;

/// The path of a module in its crate; empty for the root.
type Module = Vec<String>;

/// The `use` lines of a file, one path each, without those of its unit tests.
struct File {
    uses: Vec<Use>,
    /// `mod.rs` or a crate's root, whose re-exports are no dependencies.
    is_folder: bool,
}

struct Use {
    exported: bool,
    path: Vec<String>,
}

/// The paths of a `use` tree: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((before, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap_or(tree).to_owned()];
    };
    let inside = rest.strip_suffix('}').unwrap_or(rest);
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, letter) in inside.char_indices().chain([(inside.len(), ',')]) {
        match letter {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inside[from..at].trim();
                if !part.is_empty() {
                    found.extend(paths(part).into_iter().map(|path| format!("{before}{path}")));
                }
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

fn uses(text: &str) -> Vec<Use> {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or(text);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("use ") {
        let line = code[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let before = &code[line..at];
        if !matches!(before, "" | "pub " | "pub(crate) " | "pub(super) ") {
            continue;
        }
        let tree = code[at + 4..].split(';').next().unwrap_or_default().replace('\n', " ");
        let exported = !before.is_empty();
        let words = |path: String| path.split("::").map(|word| word.trim().to_owned()).collect();
        found.extend(paths(&tree).into_iter().map(|path| Use { exported, path: words(path) }));
    }
    found
}

/// Adds the files below a folder.
fn read(folder: &Path, module: &Module, files: &mut BTreeMap<Module, File>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if path.is_dir() {
            read(&path, &child(module, &name), files);
            continue;
        }
        let Some(name) = name.strip_suffix(".rs") else { continue };
        if name == "main" && folder.join("lib.rs").is_file() {
            continue;
        }
        let is_folder = ["mod", "lib", "main"].contains(&name);
        let module = if is_folder { module.clone() } else { child(module, name) };
        files.insert(module, File { uses: uses(&fs::read_to_string(&path).unwrap()), is_folder });
    }
}

fn child(module: &Module, name: &str) -> Module {
    [module.as_slice(), &[name.to_owned()]].concat()
}

/// The file that defines what `path` in the file `from` names, through re-exports; `None` if it is of another crate.
fn defined(files: &BTreeMap<Module, File>, from: &Module, path: &[String], depth: usize) -> Option<Module> {
    let (mut module, mut rest) = (from.clone(), path);
    match rest.first()?.as_str() {
        "crate" => {
            module.clear();
            rest = &rest[1..];
        }
        "self" | "super" => {
            while let Some(word) = rest.first().filter(|word| ["self", "super"].contains(&word.as_str())) {
                if word == "super" {
                    module.pop();
                }
                rest = &rest[1..];
            }
        }
        first if !files.contains_key(&child(&module, first)) => return None,
        _ => {}
    }
    while let Some(name) = rest.first().filter(|name| files.contains_key(&child(&module, name))) {
        module.push(name.clone());
        rest = &rest[1..];
    }
    let exported = rest.first().filter(|_| depth < 8).and_then(|name| {
        let found = files.get(&module)?.uses.iter().find(|one| one.exported && one.path.last() == Some(name))?;
        defined(files, &module, &found.path, depth + 1)
    });
    exported.or(Some(module))
}

/// The files of a `src` folder that are on a circle or between two circles, and which of those each uses.
fn circles(folder: &Path) -> BTreeMap<String, Vec<String>> {
    let mut files = BTreeMap::new();
    read(folder, &Vec::new(), &mut files);
    let used = |module: &Module, file: &File| -> BTreeSet<Module> {
        let uses = file.uses.iter().filter(|one| !(file.is_folder && one.exported));
        let used = uses.filter_map(|one| defined(&files, module, &one.path, 0));
        used.filter(|used| used != module).collect()
    };
    let mut graph: BTreeMap<Module, BTreeSet<Module>> =
        files.iter().map(|(module, file)| (module.clone(), used(module, file))).collect();
    loop {
        let before = graph.len();
        let all: BTreeSet<Module> = graph.keys().cloned().collect();
        graph.retain(|_, used| {
            used.retain(|module| all.contains(module));
            !used.is_empty()
        });
        let used: BTreeSet<Module> = graph.values().flatten().cloned().collect();
        graph.retain(|module, _| used.contains(module));
        if graph.len() == before {
            break;
        }
    }
    let name = |module: &Module| module.join("::");
    graph.iter().map(|(module, used)| (name(module), used.iter().map(name).collect())).collect()
}

#[test]
fn files_of_each_crate_form_no_circle() {
    let sources = targets().unwrap().into_iter().filter(|target| target.kind != "test");
    let folders: BTreeSet<_> = sources.filter_map(|target| target.source.parent().map(Path::to_path_buf)).collect();
    assert!(folders.len() > 10, "{folders:?}");
    for folder in folders {
        assert_eq!(circles(&folder), BTreeMap::new(), "{}", folder.display());
    }
}

#[test]
fn circle_through_a_reexport_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("lib.rs", "mod a;\nmod b;\n\npub use b::{\n    Two, three as Three,\n};\n");
    write("a.rs", "use std::fs;\n\nuse crate::{Two, b::c};\n");
    write("b/mod.rs", "mod c;\n\npub use c::Two;\n");
    write("b/c.rs", "use crate::a::One;\n\n#[cfg(test)]\nmod tests {\n    use crate::d::Four;\n}\n");
    write("d.rs", "use super::a::One;\n");
    let expected = [("a", "b::c"), ("b::c", "a")].map(|(from, to)| (from.to_owned(), vec![to.to_owned()]));
    assert_eq!(circles(folder.path()), BTreeMap::from(expected));
    write("b/c.rs", "");
    assert_eq!(circles(folder.path()), BTreeMap::new());
}
