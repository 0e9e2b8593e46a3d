//! Writes the run file with the proposals, never over a file that exists.

use std::io::Write;
use std::path::{Path, PathBuf};

use simsiam_recipe::{Edit, RunFile, edit};
use tempfile::NamedTempFile;

use super::rules::Proposal;
use crate::error::Error;

/// The path of the file with the proposals for `file`, if none is given: `run.advised.yaml` beside `run.yaml`.
pub fn default_path(file: &Path) -> PathBuf {
    file.with_extension("advised.yaml")
}

/// Refuses a path at which there is a file.
///
/// # Errors
/// [`Error::Usage`].
pub fn check_free(path: &Path) -> Result<(), Error> {
    match path.symlink_metadata() {
        Ok(_) => Err(exists(path)),
        Err(_) => Ok(()),
    }
}

fn exists(path: &Path) -> Error {
    Error::Usage(format!("--write {}: exists and is left as it is; move it or give another path", path.display()))
}

/// The text of `file` with the proposals, each with its reason as a comment, and whether the file's own comments are kept.
///
/// # Errors
/// If the result is not a valid run.
pub fn text(original: &str, file: &Path, proposals: &[Proposal]) -> Result<(String, bool), Error> {
    let origin = file.display().to_string();
    let mut edits: Vec<Edit> = Vec::new();
    for proposal in proposals {
        for (number, change) in proposal.changes.iter().enumerate() {
            let path = format!("spec.{}", change.field);
            let reason = match number {
                0 => format!("{} ({}; {})", sentence(&proposal.reason), proposal.rule, proposal.source),
                _ => format!("Rule {}, as above or below.", proposal.rule),
            };
            // A later rule may change what an earlier one proposed.
            let earlier = edits.iter().position(|edit| edit.path == path).map(|at| edits.remove(at));
            let comment = earlier.map_or(reason.clone(), |earlier| format!("{} {reason}", earlier.comment));
            edits.push(Edit { path, value: change.proposed.clone(), comment });
        }
    }
    let edited = edit(original, &origin, &edits)?;
    let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
    let header = format!("# Written by `simsiam advise` from {name}; each changed field has its reason above it.\n");
    let text = header + &edited.text;
    RunFile::parse(&text, "the proposed file").map_err(|e| Error::Internal(e.to_string()))?;
    Ok((text, edited.kept_form))
}

fn sentence(reason: &str) -> String {
    let mut letters = reason.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().collect::<String>() + letters.as_str() + ".")
}

/// Writes the text to a path at which there is no file yet.
///
/// # Errors
/// [`Error::Usage`] if there is one by now; those of the file system.
pub fn write(path: &Path, text: &str) -> Result<(), Error> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = NamedTempFile::new_in(folder).map_err(Error::io("write", path))?;
    file.write_all(text.as_bytes()).map_err(Error::io("write", path))?;
    file.as_file().sync_all().map_err(Error::io("write", path))?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => Err(exists(path)),
        Err(e) => Err(Error::io("write", path)(e.error)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules::Change;
    use super::*;

    #[test]
    fn proposals_are_written_with_their_reasons_and_nothing_else_changes() {
        let original = "apiVersion: simsiam.dev/v1alpha1\nkind: SimSiamRun\nmetadata: {name: a}\nspec:\n  # the images\n  \
                        dataset: {train: ./a}\n  output: {uri: ./out}\n  pretrain:\n    epochs: 10 # few\n";
        let change = |proposed: i32| Change { field: "pretrain.epochs", present: json!(10), proposed: json!(proposed) };
        let proposal = |rule, proposed| Proposal {
            rule,
            changes: vec![change(proposed)],
            reason: "it is better".into(),
            source: "paper",
        };
        let (text, kept) =
            text(original, Path::new("x/run.yaml"), &[proposal("one", 20), proposal("two", 30)]).unwrap();
        assert!(kept);
        let expected = original.replace(
            "    epochs: 10 # few",
            "    # It is better. (one; paper) It is better. (two; paper)\n    epochs: 30 # few",
        );
        let header = "# Written by `simsiam advise` from run.yaml; each changed field has its reason above it.\n";
        assert_eq!(text, header.to_owned() + &expected);
    }

    #[test]
    fn existing_file_is_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.advised.yaml");
        assert_eq!(default_path(&folder.path().join("run.yaml")), path);
        check_free(&path).unwrap();
        write(&path, "one").unwrap();
        assert_eq!(check_free(&path).unwrap_err().exit_code().code(), 64);
        assert_eq!(write(&path, "two").unwrap_err().exit_code().code(), 64);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
