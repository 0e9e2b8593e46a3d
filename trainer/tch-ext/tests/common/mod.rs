//! Several ranks as processes: a test starts its own executable once per rank and waits for all of them.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tch::{Kind, Tensor};
use tch_ext::c10d::{Backend, ProcessGroup, Store};

/// Time limit of collectives in tests; a hang shows as an error after it.
pub const TIMEOUT: Duration = Duration::from_secs(20);
/// After this a rank is killed and the test fails.
const DEADLINE: Duration = Duration::from_secs(90);

/// What a rank's body gets.
pub struct Rank {
    pub rank: usize,
    pub world: usize,
    pub store: Store,
    /// A folder of the test, the same for all ranks.
    pub dir: PathBuf,
    /// What the test passes on to this start.
    pub argument: String,
}

impl Rank {
    pub fn group(&self) -> ProcessGroup {
        self.group_named("test")
    }

    pub fn group_named(&self, prefix: &str) -> ProcessGroup {
        ProcessGroup::new(&self.store, prefix, Backend::Gloo, self.rank, self.world, TIMEOUT).unwrap()
    }
}

/// Runs `body` in `world` processes; `test` is the name of the calling test. All must end with success.
pub fn ranks(test: &str, world: usize, body: impl FnOnce(Rank)) {
    Launch::new(test, world).run(body);
}

/// As [`ranks`], with more choice.
pub struct Launch<'a> {
    pub test: &'a str,
    pub world: usize,
    /// Handed to the ranks as [`Rank::argument`].
    pub argument: String,
    pub dir: PathBuf,
    /// Ranks that may end anyhow.
    pub may_fail: Vec<usize>,
}

impl<'a> Launch<'a> {
    pub fn new(test: &'a str, world: usize) -> Self {
        Launch { test, world, argument: String::new(), dir: std::env::temp_dir(), may_fail: Vec::new() }
    }

    pub fn run(self, body: impl FnOnce(Rank)) {
        if let Some(rank) = this_rank(self.test) {
            tch_ext::set_intraop_threads(1).unwrap();
            tch_ext::set_log_level(tch_ext::LogLevel::Fatal);
            return body(rank);
        }
        let store = Store::tcp("127.0.0.1", 0, None, true, TIMEOUT).unwrap();
        let exe = std::env::current_exe().unwrap();
        let mut children: Vec<Child> = (0..self.world)
            .map(|rank| {
                Command::new(&exe)
                    .args([self.test, "--exact", "--nocapture", "--test-threads=1"])
                    .env("TCH_EXT_TEST", self.test)
                    .env("TCH_EXT_TEST_RANK", rank.to_string())
                    .env("TCH_EXT_TEST_WORLD", self.world.to_string())
                    .env("TCH_EXT_TEST_PORT", store.port().to_string())
                    .env("TCH_EXT_TEST_DIR", &self.dir)
                    .env("TCH_EXT_TEST_ARGUMENT", &self.argument)
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .spawn()
                    .unwrap()
            })
            .collect();
        let start = Instant::now();
        let mut failures = Vec::new();
        for (rank, child) in children.iter_mut().enumerate() {
            loop {
                if let Some(status) = child.try_wait().unwrap() {
                    if !status.success() && !self.may_fail.contains(&rank) {
                        failures.push(format!("rank {rank}: {status}"));
                    }
                    break;
                }
                if start.elapsed() > DEADLINE {
                    failures.push(format!("rank {rank} hangs"));
                    child.kill().unwrap();
                    child.wait().unwrap();
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        assert!(failures.is_empty(), "{failures:?}");
    }
}

fn this_rank(test: &str) -> Option<Rank> {
    let variable = |name: &str| std::env::var(name).ok();
    if variable("TCH_EXT_TEST")? != test {
        return None;
    }
    let number = |name: &str| variable(name).unwrap().parse::<usize>().unwrap();
    let port = u16::try_from(number("TCH_EXT_TEST_PORT")).unwrap();
    Some(Rank {
        rank: number("TCH_EXT_TEST_RANK"),
        world: number("TCH_EXT_TEST_WORLD"),
        store: Store::tcp("127.0.0.1", port, None, false, TIMEOUT).unwrap(),
        dir: variable("TCH_EXT_TEST_DIR").unwrap().into(),
        argument: variable("TCH_EXT_TEST_ARGUMENT").unwrap(),
    })
}

/// Standard normal values that depend on the seed alone, the same in every process.
pub fn randn(seed: u64, shape: &[i64], kind: Kind) -> Tensor {
    let n: i64 = shape.iter().product();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) as f64 + 0.5) / (1u64 << 31) as f64
    };
    let values: Vec<f64> =
        (0..n).map(|_| (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()).collect();
    Tensor::from_slice(&values).reshape(shape).to_kind(kind)
}

/// The largest difference relative to the larger of `b`'s values and 1e-3 of its largest.
pub fn relative_difference(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.detach().to_kind(Kind::Double), b.detach().to_kind(Kind::Double));
    assert_eq!(a.size(), b.size());
    if a.numel() == 0 {
        return 0.0;
    }
    let scale = b.abs().maximum(&(b.abs().max() * 1e-3)).clamp_min(1e-300);
    ((a - b).abs() / scale).max().double_value(&[])
}

#[track_caller]
pub fn assert_close(what: &str, a: &Tensor, b: &Tensor, rtol: f64) {
    let difference = relative_difference(a, b);
    assert!(difference <= rtol, "{what}: relative difference {difference:e} > {rtol:e}\n{a}\n{b}");
}
