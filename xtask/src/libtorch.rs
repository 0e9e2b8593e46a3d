//! Downloads libtorch into the cache and points the link `.libtorch` to it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use crate::download::{self, Progress};
use crate::error::{Error, Result};
use crate::pins::{Flavour, LIBTORCH_VERSION, Wheel};
use crate::process::repo;
use crate::system;

/// Returns a libtorch to build with; prints its path.
///
/// A `LIBTORCH` set by the user takes precedence, then the target of `.libtorch`; otherwise libtorch is downloaded.
///
/// # Errors
/// If the user's libtorch has another version, or the download fails.
pub fn ensure(flavour: Flavour) -> Result<PathBuf> {
    let link = repo().join(".libtorch");
    if let Some(own) = own_libtorch(&link) {
        let advice = "Unset LIBTORCH to download the right version, or point it to a libtorch of that version";
        check(&own, flavour).map_err(|problem| Error::Libtorch {
            origin: "LIBTORCH",
            path: own.clone(),
            problem,
            advice,
        })?;
        println!("libtorch {LIBTORCH_VERSION}: {} (LIBTORCH)", own.display());
        return Ok(own);
    }
    let linked = link.join("torch");
    if check(&linked, flavour).is_err() {
        supported()?;
        let site = in_cache(flavour)?;
        point(&link, &site)?;
        if let Err(problem) = check(&linked, flavour) {
            let advice = "Remove that folder and repeat the command";
            return Err(Error::Libtorch { origin: ".libtorch", path: site, problem, advice });
        }
    }
    let real = fs::canonicalize(&linked).map_err(Error::io("find", &linked))?;
    println!("libtorch {LIBTORCH_VERSION}: {}", real.display());
    Ok(linked)
}

/// Returns the libtorch with CUDA in the cache, after downloading it if necessary. `.libtorch` stays as it is: the tests load
/// this one beside the libtorch for CPUs, with which they are linked.
///
/// # Errors
/// If this platform has no wheels, the disk has too little room, or the download fails.
pub fn cuda() -> Result<PathBuf> {
    supported()?;
    Ok(in_cache(Flavour::Cuda)?.join("torch"))
}

/// Returns the libtorch with CUDA if the cache contains it.
pub fn cuda_if_cached() -> Option<PathBuf> {
    let site = simsiam_cache::root().ok()?.join(Flavour::Cuda.folder());
    complete(&site, Flavour::Cuda).then(|| site.join("torch"))
}

fn complete(site: &Path, flavour: Flavour) -> bool {
    flavour.required().iter().all(|path| site.join(path).is_file()) && check(&site.join("torch"), flavour).is_ok()
}

/// Returns `LIBTORCH` if the user set it. `.cargo/config.toml` sets it to `.libtorch/torch` for every cargo command, so
/// that value does not count.
fn own_libtorch(link: &Path) -> Option<PathBuf> {
    let value = PathBuf::from(std::env::var_os("LIBTORCH").filter(|value| !value.is_empty())?);
    let value = std::path::absolute(&value).unwrap_or(value);
    (value != link.join("torch")).then_some(value)
}

/// Checks the platform: the wheels are for one only.
fn supported() -> Result<()> {
    if cfg!(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")) {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "libtorch can be downloaded only for x86-64 Linux with glibc; set LIBTORCH to a libtorch {LIBTORCH_VERSION} for this machine"
    )))
}

/// Checks the version and the completeness of a libtorch. The error names the problem.
fn check(libtorch: &Path, flavour: Flavour) -> std::result::Result<(), String> {
    let found = version(libtorch).ok_or("it contains no libtorch (no build-version, no torch/version.h)")?;
    if found != LIBTORCH_VERSION {
        return Err(format!("its version is {found}, expected {LIBTORCH_VERSION}"));
    }
    // The surroundings of `torch/` may differ in a user's libtorch; its content must be complete.
    let below = flavour.required().iter().filter_map(|path| path.strip_prefix("torch/"));
    // The official archives include a hash in the name of the OpenMP library, which is found by RPATH.
    let mut needed = below.filter(|path| !path.contains("libgomp"));
    match needed.find(|path| fs::metadata(libtorch.join(path)).map_or(true, |data| data.len() == 0)) {
        Some(missing) => Err(format!("{missing} is missing")),
        None => Ok(()),
    }
}

/// The headers with the version: that of newer releases, then that of older ones, which now only includes the former.
const HEADERS: [&str; 2] = ["torch/headeronly/version.h", "torch/csrc/api/include/torch/version.h"];

/// Returns the version without a suffix like `+cu130`, from `build-version` of the official archives or from a header.
fn version(libtorch: &Path) -> Option<String> {
    if let Ok(text) = fs::read_to_string(libtorch.join("build-version")) {
        return Some(text.trim().split('+').next()?.to_owned());
    }
    let headers = HEADERS.iter().filter_map(|header| fs::read_to_string(libtorch.join("include").join(header)).ok());
    headers.filter_map(|text| version_in_header(&text)).next()
}

fn version_in_header(header: &str) -> Option<String> {
    let number = |name: &str| {
        let rest = header.lines().find_map(|line| line.trim().strip_prefix("#define ")?.strip_prefix(name))?;
        rest.strip_prefix(' ')?.trim().parse::<u32>().ok()
    };
    let parts = [number("TORCH_VERSION_MAJOR")?, number("TORCH_VERSION_MINOR")?, number("TORCH_VERSION_PATCH")?];
    Some(parts.map(|n| n.to_string()).join("."))
}

/// Returns the folder in the cache that contains `torch/` and `nvidia/`, after downloading it if necessary.
fn in_cache(flavour: Flavour) -> Result<PathBuf> {
    let root = simsiam_cache::root()?;
    let site = root.join(flavour.folder());
    if complete(&site, flavour) {
        return Ok(site);
    }
    system::ensure(system::DOWNLOAD)?;
    simsiam_cache::room(&root, flavour.disk())?;
    let wheels = flavour.wheels();
    let total: u64 = wheels.iter().map(|wheel| wheel.size).sum();
    println!("Downloading libtorch {LIBTORCH_VERSION} ({} MB) into {}", total / 1_000_000, root.display());
    let staging = simsiam_cache::Staging::begin(&root, &flavour.folder())?;
    // Downloads are in the same partial folder as the result, so that both are removed together.
    let downloads = staging.path().join("download");
    let mut progress = Progress::new(total);
    let mut done = 0;
    for wheel in &wheels {
        let file = download::wheel(wheel, &downloads, &mut progress, done)?;
        done += wheel.size;
        progress.say(&format!("unpack {}", wheel.name));
        unpack(wheel, &file, staging.path(), flavour)?;
        fs::remove_file(&file).map_err(Error::io("remove", &file))?;
    }
    drop(progress);
    fs::remove_dir_all(&downloads).map_err(Error::io("remove", &downloads))?;
    if let Some(missing) = flavour.required().iter().find(|path| !staging.path().join(path).is_file()) {
        return Err(Error::Wheel { package: flavour.folder(), what: format!("no wheel contains {missing}") });
    }
    Ok(staging.finish()?)
}

/// Unpacks the required files of a wheel below `site`, checking the CRC of each.
fn unpack(wheel: &Wheel, file: &Path, site: &Path, flavour: Flavour) -> Result<()> {
    let bad = |what: String| Error::Wheel { package: wheel.requirement(), what };
    let reader = File::open(file).map_err(Error::io("read", file))?;
    let mut archive = zip::ZipArchive::new(io::BufReader::new(reader)).map_err(|e| bad(format!("not a wheel: {e}")))?;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(|e| bad(e.to_string()))?;
        let name = entry.name().map_err(|e| bad(e.to_string()))?.into_owned();
        if !flavour.keeps(&name) {
            continue;
        }
        // A name with `..` is refused even if it stays inside.
        if Path::new(&name).components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(bad(format!("its file {name} would be unpacked outside of the folder")));
        }
        let to = site.join(&name);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        }
        let mut out = File::create(&to).map_err(Error::io("write", &to))?;
        io::copy(&mut entry, &mut out).and_then(|_| out.flush()).map_err(Error::io("write", &to))?;
    }
    Ok(())
}

/// Points the link in the repository root to `site`.
fn point(link: &Path, site: &Path) -> Result<()> {
    match fs::symlink_metadata(link) {
        Ok(data) if !data.file_type().is_symlink() => {
            return Err(Error::Refused(format!(
                "{} is a file or folder where a link must be created: move it away",
                link.display()
            )));
        }
        Ok(_) if fs::read_link(link).is_ok_and(|to| to == site) => return Ok(()),
        _ => {}
    }
    // Created under another name and renamed, so that a concurrent build always finds a link.
    let fresh = link.with_extension(format!("new-{}", std::process::id()));
    symlink(site, &fresh).map_err(Error::io("link", &fresh))?;
    fs::rename(&fresh, link).map_err(Error::io("link", link))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn libtorch(version: &str, flavour: Flavour) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for path in flavour.required() {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        let header = dir.path().join("torch/include/torch/headeronly/version.h");
        let n: Vec<_> = version.split('.').collect();
        fs::write(
            header,
            format!(
                "/// x\n#define TORCH_VERSION_MAJOR {}\n#define TORCH_VERSION_MINOR {}\n#define TORCH_VERSION_PATCH {}\n#define TORCH_VERSION_ABI_TAG 0\n",
                n[0], n[1], n[2]
            ),
        )
        .unwrap();
        dir
    }

    #[test]
    fn libtorch_of_another_version_is_refused() {
        let good = libtorch("2.11.0", Flavour::Cpu);
        check(&good.path().join("torch"), Flavour::Cpu).unwrap();
        let old = libtorch("2.9.1", Flavour::Cpu);
        let problem = check(&old.path().join("torch"), Flavour::Cpu).unwrap_err();
        assert!(problem.contains("2.9.1") && problem.contains("2.11.0"), "{problem}");
        assert!(check(&good.path().join("nothing"), Flavour::Cpu).is_err());
        fs::write(good.path().join("torch/build-version"), "2.10.0+cpu\n").unwrap();
        assert!(check(&good.path().join("torch"), Flavour::Cpu).unwrap_err().contains("2.10.0,"));
    }

    #[test]
    fn incomplete_libtorch_is_refused_with_the_missing_file() {
        let cpu = libtorch("2.11.0", Flavour::Cpu);
        let problem = check(&cpu.path().join("torch"), Flavour::Cuda).unwrap_err();
        assert!(problem.contains("lib/libtorch_cuda.so"), "{problem}");
        fs::write(cpu.path().join("torch/lib/libc10.so"), "").unwrap();
        assert!(check(&cpu.path().join("torch"), Flavour::Cpu).unwrap_err().contains("libc10.so"));
    }

    #[test]
    fn version_header_without_numbers_has_no_version() {
        assert_eq!(version_in_header("#define TORCH_VERSION_MAJOR two"), None);
    }

    #[test]
    fn unpack_keeps_wanted_files_and_refuses_outside_paths() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.whl");
        let mut zip = zip::ZipWriter::new(File::create(&file).unwrap());
        let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for name in ["torch/lib/libc10.so", "torch/__init__.py", "torch/include/a/b.h"] {
            zip.start_file(name, stored).unwrap();
            zip.write_all(name.as_bytes()).unwrap();
        }
        zip.finish().unwrap();
        let site = dir.path().join("site");
        let wheel = Flavour::Cpu.wheels()[0];
        unpack(&wheel, &file, &site, Flavour::Cpu).unwrap();
        assert_eq!(fs::read_to_string(site.join("torch/include/a/b.h")).unwrap(), "torch/include/a/b.h");
        assert!(site.join("torch/lib/libc10.so").is_file() && !site.join("torch/__init__.py").exists());

        let mut zip = zip::ZipWriter::new(File::create(&file).unwrap());
        zip.start_file("torch/include/../../../evil.h", stored).unwrap();
        zip.finish().unwrap();
        assert!(unpack(&wheel, &file, &site, Flavour::Cpu).unwrap_err().to_string().contains("evil.h"));

        fs::write(&file, "not a zip").unwrap();
        assert!(unpack(&wheel, &file, &site, Flavour::Cpu).unwrap_err().to_string().contains("torch==2.11.0"));
    }

    #[test]
    fn link_is_replaced_but_a_folder_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let (link, one, two) = (dir.path().join(".libtorch"), dir.path().join("one"), dir.path().join("two"));
        point(&link, &one).unwrap();
        point(&link, &two).unwrap();
        point(&link, &two).unwrap();
        assert_eq!(fs::read_link(&link).unwrap(), two);
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        assert!(point(&link, &one).unwrap_err().to_string().contains("move it away"));
    }
}
