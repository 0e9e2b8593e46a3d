//! Installs the MLflow server of the tests into the cache.

use std::process::Command;

use simsiam_cache::{MLFLOW, Staging};

use crate::download::PYTHON;
use crate::error::Result;
use crate::process::{output, run};
use crate::system;

/// The packages that a server imports, each pinned. The extras that MLflow also requires (scikit-learn, matplotlib, docker, …)
/// are not imported by the server and are left out.
const PACKAGES: &str = include_str!("../mlflow.txt");
/// The packages' size with room to spare, in bytes.
const SIZE: u64 = 600_000_000;
/// Creates the tables in new databases, of runs and of users, which takes a server several seconds.
const CREATE_TABLES: &str = "
import sys
from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore as Users
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore as Runs
Runs('sqlite:///' + sys.argv[1], 'mlflow-artifacts:/')
Users().init_db('sqlite:///' + sys.argv[2])
";

/// Installs the server, unless the cache has it for this version of Python.
///
/// # Errors
/// If Python or pip is missing, or the packages can't be installed.
pub fn ensure() -> Result<()> {
    system::ensure(system::DOWNLOAD)?;
    let root = simsiam_cache::root()?;
    let python = output(Command::new(PYTHON).arg("--version"))?;
    let installed = root.join(MLFLOW).join("python-version");
    if std::fs::read_to_string(installed).is_ok_and(|version| version == python) {
        return Ok(());
    }
    simsiam_cache::room(&root, SIZE)?;
    let staging = Staging::begin(&root, MLFLOW)?;
    let at = |name: &str| staging.path().join(name);
    let write = |name: &str, text: &str| {
        let path = at(name);
        std::fs::write(&path, text).map_err(crate::error::Error::io("write", &path))
    };
    write("packages.txt", PACKAGES)?;
    println!("installing MLflow for the tests: 360 MB in the cache");
    run(Command::new(PYTHON)
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--no-cache-dir"])
        .args(["--disable-pip-version-check", "--root-user-action=ignore", "--target"])
        .arg(at("site"))
        .arg("--requirement")
        .arg(at("packages.txt"))
        .env("PIP_REQUIRE_VIRTUALENV", "false"))?;
    run(Command::new(PYTHON)
        .args(["-c", CREATE_TABLES])
        .args([at("runs.sqlite"), at("users.sqlite")])
        .env("PYTHONPATH", at("site"))
        .env("MLFLOW_AUTH_ADMIN_PASSWORD", "for the tests"))?;
    write("python-version", &python)?;
    staging.finish()?;
    Ok(())
}
