//! What each test target needs besides Rust, in one table. A test fails if a target is missing from it.

use crate::test::select::Target;

/// Something outside Cargo that a test target needs. The order is the order in which it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// C++ compiler, CMake and NASM, for libjpeg-turbo and the shim over libtorch.
    Compilers,
    /// libtorch for CPUs.
    Libtorch,
    /// libtorch with CUDA, which is loaded on a machine without a GPU too.
    CudaLibtorch,
    /// Chromium, which opens the report and draws the dashboards.
    Browser,
    /// Prometheus and promtool.
    Monitoring,
    /// An MLflow server, from the Python package index.
    Mlflow,
    /// kubectl, Helm and the Kubernetes components as one program, built with Go.
    ClusterPrograms,
    /// The system packages on which a cluster's nodes run.
    ClusterPackages,
}

use Need::{Browser, ClusterPackages, ClusterPrograms, Compilers, CudaLibtorch, Libtorch, Mlflow, Monitoring};

/// The targets of a package that share their needs. `lib` and `bin` are the unit tests, other names those of `[[test]]`.
struct Row {
    package: &'static str,
    targets: &'static [&'static str],
    needs: &'static [Need],
}

const UNIT: &[&str] = &["lib"];

/// The S3 server of the end-to-end tests runs inside the test process and needs nothing.
const TABLE: &[Row] = &[
    Row { package: "simsiam-recipe", targets: UNIT, needs: &[] },
    Row {
        package: "simsiam-recipe",
        targets: &["bad_files", "examples", "presets", "round_trip", "schema"],
        needs: &[],
    },
    Row { package: "simsiam-contract", targets: &["lib", "golden"], needs: &[] },
    Row { package: "simsiam-operator", targets: &["lib", "bin", "fake_api", "objects", "plan"], needs: &[] },
    Row { package: "simsiam-pth", targets: &["lib", "corpus", "files", "limits"], needs: &[] },
    Row { package: "simsiam-jpeg", targets: UNIT, needs: &[Compilers] },
    Row {
        package: "simsiam-data",
        targets: &[
            "lib",
            "bad_keys",
            "cases",
            "channels",
            "corpus",
            "damaged",
            "folder",
            "formats",
            "hostile",
            "loader",
            "memory",
            "packed",
            "parity",
            "parquet",
            "partial",
            "transcode",
        ],
        needs: &[Compilers],
    },
    Row {
        package: "tch-ext",
        targets: &["lib", "batch_norm", "collectives", "reducer"],
        needs: &[Compilers, Libtorch],
    },
    Row { package: "tch-ext", targets: &["cuda"], needs: &[Compilers, Libtorch, CudaLibtorch] },
    Row { package: "simsiam-trainer", targets: &["lib", "bin"], needs: &[Compilers, Libtorch] },
    Row {
        package: "simsiam-trainer",
        targets: &[
            "ablations",
            "alternation",
            "architectures",
            "collapse",
            "exports",
            "formulas",
            "interchange",
            "parity",
            "photometric",
        ],
        needs: &[Compilers, Libtorch],
    },
    Row { package: "simsiam-tests", targets: UNIT, needs: &[Compilers] },
    Row { package: "simsiam-tests", targets: &["charts"], needs: &[Compilers, ClusterPrograms] },
    Row {
        package: "simsiam-tests",
        targets: &[
            "bad_input",
            "classify",
            "docs",
            "doctor",
            "interchange",
            "object_storage",
            "quickstart",
            "ranks",
            "resume",
            "sources",
        ],
        needs: &[Compilers, Libtorch],
    },
    Row { package: "simsiam-tests", targets: &["report"], needs: &[Compilers, Libtorch, Browser] },
    Row { package: "simsiam-tests", targets: &["track"], needs: &[Compilers, Libtorch, Mlflow] },
    Row { package: "simsiam-tests", targets: &["monitoring"], needs: &[Compilers, Libtorch, Browser, Monitoring] },
    Row {
        package: "simsiam-tests",
        targets: &["cluster"],
        needs: &[Compilers, Libtorch, ClusterPrograms, ClusterPackages],
    },
    Row { package: "simsiam-cluster", targets: UNIT, needs: &[] },
    Row { package: "simsiam-cluster", targets: &["cuda_image"], needs: &[CudaLibtorch] },
    Row { package: "simsiam-cluster", targets: &["life"], needs: &[ClusterPrograms, ClusterPackages] },
    Row { package: "simsiam-cache", targets: UNIT, needs: &[] },
    Row { package: "xtask", targets: &["bin"], needs: &[] },
];

/// The needs of a target, or `None` if the table does not list it.
pub fn of(target: &Target) -> Option<&'static [Need]> {
    let row = TABLE.iter().find(|row| row.package == target.package && row.targets.contains(&target.short_name()));
    row.map(|row| row.needs)
}

/// Everything that at least one of the targets needs, in the order of set-up. A target outside the table needs everything.
pub fn union(targets: &[&Target]) -> Vec<Need> {
    const ALL: &[Need] =
        &[Compilers, Libtorch, CudaLibtorch, Browser, Monitoring, Mlflow, ClusterPrograms, ClusterPackages];
    let mut needs: Vec<Need> = targets.iter().flat_map(|target| of(target).unwrap_or(ALL)).copied().collect();
    needs.sort_unstable();
    needs.dedup();
    needs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::select::targets;

    fn find<'a>(targets: &'a [Target], package: &str, name: &str) -> &'a Target {
        targets.iter().find(|target| target.package == package && target.short_name() == name).unwrap()
    }

    #[test]
    fn every_test_target_is_in_the_table_once() {
        for target in targets().unwrap() {
            let rows = TABLE.iter().filter(|row| row.package == target.package);
            let rows = rows.filter(|row| row.targets.contains(&target.short_name())).count();
            assert_eq!(rows, 1, "xtask/src/test/needs.rs: rows for {} of {}", target.short_name(), target.package);
        }
    }

    #[test]
    fn every_row_names_existing_targets() {
        let all = targets().unwrap();
        for row in TABLE {
            for name in row.targets {
                let exists = all.iter().any(|target| target.package == row.package && target.short_name() == *name);
                assert!(exists, "{} has no test target {name}", row.package);
            }
        }
    }

    #[test]
    fn needs_of_recipe_and_operator_are_none() {
        let all = targets().unwrap();
        let chosen: Vec<_> =
            all.iter().filter(|t| ["simsiam-recipe", "simsiam-operator"].contains(&t.package.as_str())).collect();
        assert!(chosen.len() > 8);
        assert_eq!(union(&chosen), []);
    }

    #[test]
    fn union_is_sorted_without_duplicates() {
        let all = targets().unwrap();
        let chosen = [find(&all, "simsiam-tests", "report"), find(&all, "simsiam-tests", "charts")];
        assert_eq!(union(&chosen), [Compilers, Libtorch, Browser, ClusterPrograms]);
    }

    #[test]
    fn only_cluster_targets_need_a_cluster() {
        let with_cluster = |target: &Target| of(target).is_some_and(|needs| needs.contains(&ClusterPackages));
        let names: Vec<_> = targets().unwrap().into_iter().filter(with_cluster).map(|t| t.name).collect();
        assert_eq!(names, ["cluster", "life"]);
    }

    #[test]
    fn only_cuda_targets_need_libtorch_with_cuda() {
        let with_cuda = |target: &Target| of(target).is_some_and(|needs| needs.contains(&CudaLibtorch));
        let mut names: Vec<_> = targets().unwrap().into_iter().filter(with_cuda).map(|t| t.name).collect();
        names.sort_unstable();
        assert_eq!(names, ["cuda", "cuda_image"]);
    }
}
