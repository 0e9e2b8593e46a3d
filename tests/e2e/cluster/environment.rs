//! The environment of the tests: cluster, S3 server, images, operator.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use simsiam_cluster::images::{OPERATOR, Product, TRAINER};
use simsiam_cluster::{Cluster, Options, Tools};
use simsiam_tests::s3::{KEYS, Server};
use simsiam_tests::{build_program, root, simsiam};
use tempfile::TempDir;

/// Namespace of the runs.
pub const NAMESPACE: &str = "default";
/// Namespace of the operator.
pub const SYSTEM: &str = "simsiam-system";
/// Name of the Helm release.
pub const RELEASE: &str = "simsiam";
const SECRET: &str = "s3-keys";

/// The environment.
pub struct Environment {
    pub cluster: Cluster,
    pub server: Server,
    folder: TempDir,
    external: bool,
    images: [String; 2],
    /// Digest of the weights of an undisturbed run.
    pub undisturbed: Option<String>,
}

impl Environment {
    /// Starts everything, or returns why that is impossible here.
    pub fn new() -> Result<Self, String> {
        let external = std::env::var_os("KUBECONFIG").map(PathBuf::from);
        let folder = tempfile::tempdir().unwrap();
        let (cluster, host, images) = match &external {
            Some(kubeconfig) => {
                let variable =
                    |name: &str| std::env::var(name).map_err(|_| format!("KUBECONFIG is set, but {name} is not"));
                let images = variable("SIMSIAM_TEST_IMAGES")?;
                let (operator, trainer) =
                    images.split_once(',').ok_or("SIMSIAM_TEST_IMAGES: expected OPERATOR,TRAINER")?;
                let host: IpAddr =
                    variable("SIMSIAM_TEST_HOST")?.parse().map_err(|e| format!("SIMSIAM_TEST_HOST: {e}"))?;
                (Cluster::existing(kubeconfig), host, [operator.to_owned(), trainer.to_owned()])
            }
            None => {
                if let Some(why) = simsiam_cluster::machine_obstacle().or_else(Tools::obstacle) {
                    return Err(why);
                }
                let programs = [build_program("simsiam-operator", "simsiam-operator"), simsiam().to_owned()];
                let cluster = Cluster::up(&Options { gpus_per_node: 4, ..Options::default() }).expect("a cluster");
                for (product, program) in [OPERATOR, TRAINER].iter().zip(&programs) {
                    import(&cluster, product, program);
                }
                let host = IpAddr::V4(cluster.host_address().unwrap());
                (cluster, host, [OPERATOR.image(), TRAINER.image()])
            }
        };
        for bucket in ["models", "data"] {
            fs::create_dir_all(folder.path().join(bucket)).unwrap();
        }
        let server = Server::start_at(folder.path(), host);
        let env = Self { cluster, server, folder, external: external.is_some(), images, undisturbed: None };
        env.data();
        env.install(&[]);
        env.secret(NAMESPACE);
        Ok(env)
    }

    /// Returns whether the cluster was not started by this test.
    pub fn is_external(&self) -> bool {
        self.external
    }

    /// The folder of the S3 server; each folder in it is a bucket.
    pub fn buckets(&self) -> &Path {
        self.folder.path()
    }

    /// Copies real images if available, otherwise generates some.
    fn data(&self) {
        let to = self.folder.path().join("data");
        match simsiam_tests::cifar10(40) {
            Some(cifar) => {
                for (from, part) in [("train", "train"), ("test", "val")] {
                    copy(&cifar.join(from), &to.join(part), if part == "val" { 10 } else { usize::MAX });
                }
            }
            None => {
                let drawn = simsiam_tests::synth(self.folder.path(), 40, 10);
                assert_eq!(drawn, to);
            }
        }
    }

    /// Installs the operator and the definition of runs by their chart, or upgrades both, with more values: `name=value`.
    pub fn install(&self, more: &[&str]) {
        if let Err(said) = self.try_install(more, &[]) {
            self.print_diagnostics();
            panic!("{said}");
        }
        // An API server lists a new definition among its resources some time after it has established it.
        simsiam_tests::wait_until(Duration::from_secs(30), "SimSiamRuns are known", || {
            self.cluster.kubectl(&["get", "ssr"]).ok()
        });
    }

    /// The same with more flags; the error is Helm's output.
    pub fn try_install(&self, more: &[&str], flags: &[&str]) -> Result<(), String> {
        let values = [self.values(), more.join(",")].join(",");
        let mut helm = self.cluster.helm(&["upgrade", "--install", RELEASE, &chart(), "--namespace", SYSTEM]);
        helm.args(["--create-namespace", "--wait", "--timeout", "2m", "--set", values.trim_end_matches(',')]);
        let said = helm.args(flags).output().unwrap();
        if said.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said.stderr).into_owned()) }
    }

    /// The images, as values of the chart.
    pub fn values(&self) -> String {
        let mut values = Vec::new();
        for (name, image) in [("image", &self.images[0]), ("trainerImage", &self.images[1])] {
            let (repository, tag) = image.rsplit_once(':').expect("an image with a tag");
            values.extend([format!("{name}.repository={repository}"), format!("{name}.tag={tag}")]);
        }
        values.join(",")
    }

    /// Uninstalls the operator; what the chart keeps stays.
    pub fn uninstall(&self) {
        let said = self.cluster.helm(&["uninstall", RELEASE, "--namespace", SYSTEM, "--wait"]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    /// Creates the Secret with the keys of the S3 server in a namespace.
    pub fn secret(&self, namespace: &str) {
        let keys = json!({"AWS_ACCESS_KEY_ID": KEYS[0], "AWS_SECRET_ACCESS_KEY": KEYS[1]});
        let secret = json!({"apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": namespace}, "stringData": keys});
        self.cluster.apply(&secret.to_string()).unwrap();
    }

    /// A run of two pods on real images in a bucket, with its output in another, that trains for some ten seconds.
    pub fn spec(&self, output: &str) -> Value {
        json!({
            "dataset": {"train": "s3://data/train", "val": "s3://data/val"},
            "output": {"uri": format!("s3://models/{output}"), "endpoint": self.server.endpoint(), "region": "us-east-1",
                "credentialsSecret": SECRET},
            "pretrain": {
                "arch": "resnet18", "stem": "cifar", "baseWidth": 8, "dim": 64, "predDim": 16,
                "projector": {"layers": 2, "hiddenDim": 64},
                "epochs": 8, "batchSize": 32, "lr": 0.05, "seed": 7,
                "augment": {"cropSize": 32, "evalResize": 32, "blurProb": 0.0},
            },
            "checkpoint": {"everySteps": 6, "keepLast": 3},
            "workers": {"nodes": 2, "threadsPerRank": 1},
            "terminationGracePeriodSeconds": 30,
            "restartPolicy": {"scheduleTimeout": "60s"},
        })
    }

    /// Applies a run and returns the API server's answer.
    pub fn apply(&self, name: &str, spec: &Value) -> simsiam_cluster::Result<String> {
        self.apply_in(NAMESPACE, name, spec)
    }

    /// The same in another namespace.
    pub fn apply_in(&self, namespace: &str, name: &str, spec: &Value) -> simsiam_cluster::Result<String> {
        let run = json!({"apiVersion": "simsiam.dev/v1alpha1", "kind": "SimSiamRun",
            "metadata": {"name": name, "namespace": namespace}, "spec": spec});
        self.cluster.apply(&run.to_string())
    }

    /// Returns the current run.
    pub fn run(&self, name: &str) -> Value {
        self.cluster.json(&["get", "ssr", name]).unwrap()
    }

    /// Waits until `what` holds of the run's status.
    pub fn wait(&self, name: &str, limit: Duration, words: &str, what: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.run(name)["status"].take();
            if what(&status) {
                return status;
            }
            if start.elapsed() > limit {
                panic!("{name}: not {words} within {limit:?}: {status:#}");
            }
            std::thread::sleep(Duration::from_millis(400));
        }
    }

    /// Waits for a phase.
    pub fn wait_for(&self, name: &str, phase: &str, limit: Duration) -> Value {
        self.wait(name, limit, phase, |status| {
            let now = status["phase"].as_str();
            let ended = now == Some("Failed") || now == Some("Succeeded");
            assert!(!ended || now == Some(phase), "{name}: not {phase} but {status:#}");
            now == Some(phase)
        })
    }

    /// Waits until a run has written a checkpoint, and trains on.
    pub fn wait_for_checkpoint(&self, name: &str, output: &str) {
        let folder = self.buckets().join("models").join(output).join("checkpoints");
        simsiam_tests::wait_until(Duration::from_secs(180), "a checkpoint", || {
            let status = self.run(name)["status"].take();
            let ended =
                status["phase"] == "Failed" || status["stage"].as_str().is_some_and(|stage| stage != "pretrain");
            assert!(!ended, "too late: {status:#}");
            let names = fs::read_dir(&folder).ok()?.flatten();
            names.map(|entry| entry.path().join("manifest.json")).find(|path| path.exists())
        });
    }

    /// Creates a volume for the next claim and returns its folder; `None` on an external cluster, which has its own volumes.
    pub fn volume(&self) -> Option<PathBuf> {
        if self.external {
            return None;
        }
        let folder = self.folder.path().join("claim");
        fs::create_dir_all(&folder).unwrap();
        // Kubernetes does not give a folder of the host to a pod's group.
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "claim"}, "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": folder},
            "persistentVolumeReclaimPolicy": "Retain"}});
        self.cluster.apply(&volume.to_string()).unwrap();
        Some(folder)
    }

    /// The trainer's image.
    pub fn trainer(&self) -> &str {
        &self.images[1]
    }

    /// The pods of a run, by index.
    pub fn pods(&self, name: &str) -> Vec<Value> {
        let list = self.cluster.json(&["get", "pods", "-l", &format!("simsiam.dev/run={name}")]).unwrap();
        list["items"].as_array().cloned().unwrap_or_default()
    }

    /// Prints what helps to understand a failure.
    pub fn print_diagnostics(&self) {
        for arguments in [
            ["get", "ssr,jobs,pods", "-A", "-o", "wide"].as_slice(),
            &["get", "events", "-A", "--sort-by=.metadata.creationTimestamp"],
            &["logs", "-n", SYSTEM, "-l", "app.kubernetes.io/name=simsiam-operator", "--tail=60"],
            &["logs", "-l", "app.kubernetes.io/name=simsiam-trainer", "--tail=30", "--prefix"],
        ] {
            let said = self.cluster.kubectl(arguments).unwrap_or_else(|e| e.to_string());
            println!("$ kubectl {}\n{said}", arguments.join(" "));
        }
    }

    /// Deletes all runs and waits for their pods to go.
    pub fn clear(&self) {
        if let Err(e) = self.cluster.kubectl(&["delete", "ssr", "--all", "--wait=false"]) {
            println!("{e}");
        }
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(90) {
            let left = self.cluster.json(&["get", "jobs,pods", "-l", "app.kubernetes.io/managed-by=simsiam-operator"]);
            if left.is_ok_and(|list| list["items"].as_array().is_some_and(Vec::is_empty)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        println!("some pods of ended runs are still there");
    }

    /// Takes everything down.
    pub fn end(self) {
        if self.external {
            let _ = self.cluster.helm(&["uninstall", RELEASE, "--namespace", SYSTEM]).status();
        } else {
            self.cluster.down().expect("the cluster goes down");
        }
    }
}

/// The operator's chart, which has the definition's in it.
pub fn chart() -> String {
    root().join("charts/simsiam-operator").display().to_string()
}

/// Imports the image of a program on the nodes; the archive is rebuilt only if the program changed.
fn import(cluster: &Cluster, product: &Product, program: &Path) {
    let archive = root().join("target/images/test").join(format!("{}.tar", product.name));
    let age = |path: &Path| fs::metadata(path).and_then(|file| file.modified()).ok();
    if age(&archive) < age(program) {
        fs::create_dir_all(archive.parent().unwrap()).unwrap();
        product.archive(program, &archive).expect("an image");
    }
    cluster.import_image(&archive).expect("imported");
}

/// Copies a folder of class folders, with at most `most` files of each class.
fn copy(from: &Path, to: &Path, most: usize) {
    for class in fs::read_dir(from).unwrap().flatten() {
        let folder = to.join(class.file_name());
        fs::create_dir_all(&folder).unwrap();
        let mut files: Vec<_> = fs::read_dir(class.path()).unwrap().flatten().map(|file| file.path()).collect();
        files.sort();
        for file in files.into_iter().take(most) {
            fs::copy(&file, folder.join(file.file_name().unwrap())).unwrap();
        }
    }
}
