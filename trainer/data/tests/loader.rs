//! What the loaders promise: the order, the pixels, what becomes of bad images, and an end when it is time.

#![allow(clippy::unwrap_used)] // The helpers here are tests too.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use simsiam_data::{
    Batch, Error, EvalLoader, EvalView, LoadStage, Loader, LoaderOptions, Probabilities, Source, TwoViews, ViewFormat,
    ViewParams, ops, permutation,
};

/// Images in memory: a fixture for each id, made distinct by the crops that ids draw.
struct Memory {
    images: Vec<Vec<u8>>,
    names: Vec<String>,
    reads: AtomicUsize,
    delay: Duration,
}

impl Memory {
    fn new(count: usize) -> Self {
        let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures"));
        let files = ["picture.png", "420.jpg", "eval-portrait.png", "colours.png"];
        let fixtures = files.map(|name| std::fs::read(folder.join(name)).unwrap());
        Self {
            images: (0..count).map(|id| fixtures[id % fixtures.len()].clone()).collect(),
            names: (0..count).map(|id| format!("{id:03}.img")).collect(),
            reads: AtomicUsize::new(0),
            delay: Duration::ZERO,
        }
    }

    fn with_bad(mut self, ids: &[usize]) -> Self {
        ids.iter().for_each(|id| self.images[*id] = b"not an image".to_vec());
        self
    }
}

impl Source for Memory {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn read(&self, id: u64) -> Result<Vec<u8>, Error> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(self.delay);
        Ok(self.images[id as usize].clone())
    }

    fn name(&self, id: u64) -> &str {
        self.names.get(id as usize).map_or("", String::as_str)
    }

    fn label(&self, id: u64) -> Option<u32> {
        Some(id as u32 % 7)
    }

    fn classes(&self) -> &[String] {
        &[]
    }
}

fn views() -> TwoViews {
    TwoViews { crop_size: 24, ..TwoViews::default() }
}

fn options() -> LoaderOptions {
    LoaderOptions {
        seed: 3,
        epoch: 2,
        batch: 12,
        rank: 0,
        world: 1,
        first_batch: 0,
        threads: 2,
        prefetch: 2,
        max_corrupt: 0,
        ..LoaderOptions::default()
    }
}

fn load(source: &Arc<dyn Source>, options: LoaderOptions) -> Vec<Batch> {
    Loader::two_views(Arc::clone(source), views(), options).unwrap().map(Result::unwrap).collect()
}

/// What was drawn and what came of it, over three epochs with the default settings. Runs that continue after an update
/// need the same views: change the digest only together with the arithmetic.
#[test]
fn default_views_match_those_of_earlier_versions() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(48));
    let mut digest = Sha256::new();
    for epoch in 0..3 {
        for batch in load(&source, LoaderOptions { epoch, ..options() }) {
            for params in batch.params.iter().flatten() {
                let crop = [params.crop.left, params.crop.top, params.crop.width, params.crop.height];
                digest.update(format!("{crop:?} {:?} {:?}", params.jitter, params.blur));
                digest.update([u8::from(params.grayscale), u8::from(params.flip)]);
            }
            batch.views.iter().flatten().for_each(|value| digest.update(value.to_bits().to_le_bytes()));
        }
    }
    let digest: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, "416debe0862ee279bfd4aa0e791f092282bd623962bbbf39e390db19fc1e34f5");
}

/// A classifier's loader: view 1 of the two, and the partial batch that pre-training drops.
#[test]
fn one_view_loader_yields_first_view_of_every_sample() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(31));
    let load = |options| -> Vec<Batch> {
        Loader::one_view(Arc::clone(&source), views(), options).unwrap().map(Result::unwrap).collect()
    };
    let (one, two) = (load(options()), self::load(&source, options()));
    assert_eq!(one.iter().map(|b| b.ids.len()).collect::<Vec<_>>(), [12, 12, 7]);
    for (one, two) in one.iter().zip(&two) {
        assert_eq!((&one.ids, &one.views[0], &one.params[0]), (&two.ids, &two.views[0], &two.params[0]));
        assert!(one.views[1].is_empty() && one.params[1].is_empty());
        assert_eq!(one.shape, [one.ids.len(), 3, 24, 24]);
    }
    let mut all: Vec<u64> = one.iter().flat_map(|b| b.ids.clone()).collect();
    all.sort_unstable();
    assert_eq!(all, (0..31).collect::<Vec<_>>());

    // The same over three ranks, whose shares of the last batch differ.
    let ranks: Vec<_> = (0..3).map(|rank| load(LoaderOptions { rank, world: 3, ..options() })).collect();
    for (index, whole) in one.iter().enumerate() {
        let ids: Vec<u64> = ranks.iter().flat_map(|rank| rank[index].ids.clone()).collect();
        assert_eq!(ids, whole.ids);
    }
    assert_eq!(ranks.iter().map(|rank| rank[2].ids.len()).collect::<Vec<_>>(), [2, 2, 3]);
    // A set smaller than a batch is one partial batch; crops come by the same way.
    let crops = load(LoaderOptions { batch: 64, output: ViewFormat::Crops, ..options() });
    assert_eq!((crops.len(), crops[0].ids.len(), crops[0].crops[0].len()), (1, 31, 31 * 24 * 24 * 3));
    assert!(crops[0].views[0].is_empty() && crops[0].crops[1].is_empty());
    assert!(load(LoaderOptions { first_batch: 2, ..options() })[0] == one[2], "after a resume");
}

/// The ranks' shares of each global batch, one after the other.
fn joined(source: &Arc<dyn Source>, world: usize, threads: usize, prefetch: usize) -> Vec<Batch> {
    let ranks: Vec<Vec<Batch>> = (0..world)
        .map(|rank| load(source, LoaderOptions { rank, world, threads, prefetch, max_corrupt: 9, ..options() }))
        .collect();
    (0..ranks[0].len())
        .map(|index| {
            let mut whole = Batch { index, ..Batch::default() };
            for share in ranks.iter().map(|rank| &rank[index]) {
                assert_eq!((share.index, share.shape), (index, [12 / world, 3, 24, 24]));
                let before = whole.ids.len();
                whole.ids.extend(&share.ids);
                whole.labels.extend(&share.labels);
                whole.views.iter_mut().zip(&share.views).for_each(|(all, part)| all.extend(part));
                whole.replaced.extend(share.replaced.iter().cloned().map(|mut replaced| {
                    replaced.position += before;
                    replaced
                }));
            }
            whole
        })
        .collect()
}

#[test]
fn ranks_and_threads_do_not_change_order_or_pixels() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(50).with_bad(&[4, 17, 18]));
    let reference = joined(&source, 1, 1, 1);
    assert_eq!(reference.len(), 4);
    assert_eq!(reference.iter().map(|batch| batch.replaced.len()).sum::<usize>(), 3);
    for world in [1, 2, 3] {
        for (threads, prefetch) in [(1, 2), (4, 1), (4, 3), (4, 8)] {
            assert!(joined(&source, world, threads, prefetch) == reference, "world {world}, threads {threads}");
        }
    }
}

#[test]
fn batches_follow_permutation_with_distinct_views() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(50));
    let order = permutation(3, 2, 50);
    let batches = load(&source, options());
    for batch in &batches {
        let expected: Vec<u64> = order[batch.index * 12..][..12].iter().map(|id| u64::from(*id)).collect();
        assert_eq!(batch.ids, expected);
        assert!(batch.ids.iter().zip(&batch.labels).all(|(id, label)| *label == Some(*id as u32 % 7)));
        assert_ne!(batch.views[0], batch.views[1]);
    }
    let other_epoch = load(&source, LoaderOptions { epoch: 3, ..options() });
    assert_ne!(other_epoch[0].ids, batches[0].ids);
    // The same image, in another epoch: another view.
    let id = batches[0].ids[0];
    let found = |batches: &[Batch]| {
        let batch = batches.iter().find(|batch| batch.ids.contains(&id))?;
        let place = batch.ids.iter().position(|found| *found == id)?;
        Some(batch.views[0][place * 3 * 24 * 24..][..3 * 24 * 24].to_vec())
    };
    assert_ne!(found(&batches), found(&other_epoch));
}

#[test]
fn resumed_epoch_equals_uninterrupted_epoch() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(50));
    let whole = load(&source, options());
    for first_batch in 1..=4 {
        let rest = load(&source, LoaderOptions { first_batch, ..options() });
        assert!(rest == whole[first_batch..], "from batch {first_batch}");
    }
}

#[test]
fn bad_image_is_replaced_by_next_of_permutation() {
    let order = permutation(3, 2, 50);
    // Two in a row within batch 0, and the very last, whose successor is the first.
    let (bad, next) = ([order[5], order[6], order[47]], [order[7], order[7], order[48]]);
    let source: Arc<dyn Source> = Arc::new(Memory::new(50).with_bad(&bad.map(|id| id as usize)));
    let batches = load(&source, LoaderOptions { max_corrupt: 3, ..options() });
    let replaced: Vec<_> =
        batches.iter().flat_map(|batch| batch.replaced.iter().map(move |r| (batch.index, r))).collect();
    let told: Vec<_> = replaced.iter().map(|(index, r)| (*index, r.position, r.id as u32, r.by as u32)).collect();
    assert_eq!(
        told,
        [(0, 5, bad[0], next[0]), (0, 5, bad[1], next[0]), (0, 6, bad[1], next[1]), (3, 11, bad[2], next[2])]
    );
    assert_eq!(replaced[0].1.name, format!("{:03}.img", bad[0]));
    assert_eq!(replaced[0].1.reason, "none of JPEG, PNG, TIFF, BMP, WebP, DICOM and NumPy by its first bytes");
    // The replacement comes with its own views.
    let plane = 3 * 24 * 24;
    let view = |position: usize| &batches[0].views[1][position * plane..][..plane];
    assert_eq!(view(5), view(7));
    assert_eq!(view(6), view(7));
    assert_ne!(view(4), view(7));
}

#[test]
fn replacement_at_end_of_permutation_wraps_around() {
    let order = permutation(3, 2, 48);
    let source: Arc<dyn Source> = Arc::new(Memory::new(48).with_bad(&[order[47] as usize]));
    let batches = load(&source, LoaderOptions { max_corrupt: 1, ..options() });
    assert_eq!(batches[3].ids[11], u64::from(order[0]));
}

#[test]
fn too_many_bad_images_fail_with_name() {
    let order = permutation(3, 2, 50);
    let bad = [order[3], order[20], order[21]];
    let source: Arc<dyn Source> = Arc::new(Memory::new(50).with_bad(&bad.map(|id| id as usize)));
    let mut loader = Loader::two_views(source, views(), LoaderOptions { max_corrupt: 2, ..options() }).unwrap();
    assert_eq!(loader.next().unwrap().unwrap().replaced.len(), 1);
    assert_eq!(loader.corrupt(), 1);
    let error = loader.next().unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "3 unreadable images, more than the 2 allowed; the last is {:03}.img: none of JPEG, PNG, TIFF, BMP, WebP, \
             DICOM and NumPy by its first bytes; repair or remove them, or raise the limit",
            order[21]
        )
    );
    assert!(loader.next().is_none());
}

#[test]
fn only_bad_images_is_an_error() {
    let all: Vec<usize> = (0..20).collect();
    let source: Arc<dyn Source> = Arc::new(Memory::new(20).with_bad(&all));
    let mut loader = Loader::two_views(source, views(), LoaderOptions { max_corrupt: 99, ..options() }).unwrap();
    assert!(matches!(loader.next(), Some(Err(Error::NothingReadable { samples: 20, .. }))));
    assert!(loader.next().is_none());
}

#[test]
fn option_out_of_range_is_named() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(50));
    let refusal = |options: LoaderOptions, views: TwoViews| {
        Loader::two_views(Arc::clone(&source), views, options).unwrap_err().to_string()
    };
    let with = |change: fn(&mut LoaderOptions)| {
        let mut options = options();
        change(&mut options);
        refusal(options, views())
    };
    assert_eq!(with(|o| o.world = 5), "batch = 12: expected a multiple of the world size, 5");
    assert_eq!(with(|o| o.rank = 1), "rank = 1: expected less than the world size, 1");
    assert_eq!(with(|o| o.batch = 0), "batch = 0: expected at least 1");
    assert_eq!(with(|o| o.threads = 0), "threads = 0: expected 1 to 1024");
    assert_eq!(with(|o| o.prefetch = 0), "prefetch = 0: expected at least 1");
    assert_eq!(with(|o| o.first_batch = 5), "first_batch = 5: expected at most 4");
    assert_eq!(
        with(|o| o.batch = 51),
        "the data set has 50 images, fewer than one global batch of 51; use a smaller batch or add images"
    );
    let usual = Probabilities::default();
    let jitter = TwoViews { probabilities: [Probabilities { jitter: 1.5, ..usual }, usual], ..views() };
    assert_eq!(refusal(options(), jitter), "jitter_prob = 1.5: expected 0 to 1");
    let solarize = TwoViews { probabilities: [usual, Probabilities { solarize: -0.1, ..usual }], ..views() };
    assert_eq!(refusal(options(), solarize), "solarize_prob = -0.1: expected 0 to 1");
    let nan = TwoViews { hue: f64::NAN, ..views() };
    assert_eq!(refusal(options(), nan), "hue = NaN: expected 0 to 0.5");
}

/// Threads of this process whose names start with `data-`.
fn data_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| name.starts_with("data-")).count()
}

/// Alone in this file in looking at all threads of the process, so it runs what else would start some itself.
#[test]
#[ignore = "counts threads; run by stopping_is_prompt in a process of its own"]
fn stopping_is_prompt_alone() {
    let mut memory = Memory::new(5000);
    memory.delay = Duration::from_millis(2);
    let source = Arc::new(memory);
    let slow = LoaderOptions { batch: 2000, threads: 3, ..options() };
    let mut loader = Loader::two_views(source.clone(), views(), LoaderOptions { batch: 20, ..slow.clone() }).unwrap();
    assert!(loader.next().is_some_and(|batch| batch.is_ok()));
    assert_eq!(data_threads(), 5);
    drop(loader);
    // One drop with full queues, one with both lanes in the middle of a batch of seconds.
    for pause in [500, 50] {
        let batch = if pause == 500 { 20 } else { 2000 };
        let loader = Loader::two_views(source.clone(), views(), LoaderOptions { batch, ..slow.clone() }).unwrap();
        std::thread::sleep(Duration::from_millis(pause));
        let start = Instant::now();
        drop(loader);
        while data_threads() > 0 && start.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(start.elapsed() < Duration::from_millis(300), "{:?}", start.elapsed());
    }
}

#[test]
fn dropped_loader_stops_promptly() {
    let run = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "stopping_is_prompt_alone", "--ignored", "--test-threads=1"])
        .output()
        .unwrap();
    assert!(run.status.success(), "{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
}

#[test]
fn read_ahead_is_bounded_by_prefetch() {
    let source = Arc::new(Memory::new(240));
    let mut loader = Loader::two_views(source.clone(), views(), LoaderOptions { prefetch: 4, ..options() }).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let reads = source.reads.load(Ordering::Relaxed);
    assert!((12..=6 * 12).contains(&reads), "{reads} reads before the first batch was asked for");
    let batch = loader.next().unwrap().unwrap();
    assert_eq!(batch.index, 0);
}

#[test]
fn recycled_buffers_are_reused() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(480));
    let mut loader = Loader::two_views(source, views(), LoaderOptions { prefetch: 1, ..options() }).unwrap();
    let mut buffers = HashSet::new();
    let mut count = 0;
    while let Some(batch) = loader.next() {
        let batch = batch.unwrap();
        buffers.insert(batch.views[0].as_ptr() as usize);
        count += 1;
        loader.recycle(batch);
    }
    assert_eq!(count, 40);
    assert!(buffers.len() <= 4, "{} buffers", buffers.len());
}

#[test]
fn wait_for_data_is_measured() {
    let mut memory = Memory::new(24);
    memory.delay = Duration::from_millis(20);
    let mut loader = Loader::two_views(Arc::new(memory), views(), LoaderOptions { threads: 1, ..options() }).unwrap();
    loader.next();
    assert!(loader.wait() >= Duration::from_millis(200), "{:?}", loader.wait());
    std::thread::sleep(Duration::from_millis(500));
    let before = loader.wait();
    loader.next();
    assert!(loader.wait() - before < Duration::from_millis(100), "{:?}", loader.wait() - before);
}

fn eval_view() -> EvalView {
    EvalView { resize: 28, crop: 24, mean: vec![0.5; 3], std: vec![0.25; 3] }
}

#[test]
fn evaluation_is_ordered_by_id_without_bad_images() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(23).with_bad(&[3, 9, 22]));
    let run = |range, batch, threads| -> Vec<_> {
        EvalLoader::new(Arc::clone(&source), eval_view(), range, batch, threads).unwrap().map(Result::unwrap).collect()
    };
    let batches = run(0..99, 8, 3);
    let ids: Vec<Vec<u64>> = batches.iter().map(|batch| batch.ids.clone()).collect();
    assert_eq!(ids, [vec![0, 1, 2, 4, 5, 6, 7], vec![8, 10, 11, 12, 13, 14, 15], vec![16, 17, 18, 19, 20, 21]]);
    let skipped: Vec<u64> = batches.iter().flat_map(|batch| batch.skipped.iter().map(|skipped| skipped.id)).collect();
    assert_eq!(skipped, [3, 9, 22]);
    for batch in &batches {
        assert_eq!(batch.shape, [batch.ids.len(), 3, 24, 24]);
        assert_eq!(batch.images.len(), batch.ids.len() * 3 * 24 * 24);
    }
    // Sample 7, whose place moved up, has the pixels that it has alone.
    let alone = run(7..8, 1, 1);
    assert_eq!(alone[0].images, batches[0].images[6 * 3 * 24 * 24..]);
    assert_eq!((alone.len(), &alone[0].labels), (1, &vec![Some(0)]));
    assert!(run(23..30, 4, 1).is_empty());
    let parts: Vec<u64> = [run(0..11, 5, 2), run(11..23, 5, 1)].concat().iter().flat_map(|b| b.ids.clone()).collect();
    assert_eq!(parts, ids.concat());
}

/// What a device is to do with crops, done here by the crate's own operations, gives the finished views to the bit.
#[test]
fn crops_with_parameters_equal_planes() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(36));
    let more = Probabilities { solarize: 0.5, vertical_flip: 0.5, quarter_turn: 0.75, ..Probabilities::default() };
    let size = 24 * 24 * 3;
    let normalize = ops::Normalize::new(views().mean, views().std);
    for probabilities in [views().probabilities, [more, Probabilities::default()]] {
        let views = TwoViews { probabilities, ..views() };
        let load = |output| -> Vec<Batch> {
            let options = LoaderOptions { output, ..options() };
            Loader::two_views(Arc::clone(&source), views.clone(), options).unwrap().map(Result::unwrap).collect()
        };
        let (whole, crops) = (load(ViewFormat::Planes), load(ViewFormat::Crops));
        assert_eq!((whole.len(), crops.len()), (3, 3));
        for (whole, crops) in whole.iter().zip(&crops) {
            assert_eq!((&whole.ids, &whole.shape, &whole.params), (&crops.ids, &crops.shape, &crops.params));
            assert!(whole.crops.iter().all(Vec::is_empty) && crops.views.iter().all(Vec::is_empty));
            for view in 0..2 {
                assert_eq!((crops.crops[view].len(), crops.params[view].len()), (12 * size, 12));
                for (sample, params) in crops.params[view].iter().enumerate() {
                    let pixels = &crops.crops[view][sample * size..(sample + 1) * size];
                    let planes = finished(pixels, params);
                    let mut values = vec![0.0; size];
                    normalize.apply(&planes, 24, false, &mut values);
                    assert!(
                        values == whole.views[view][sample * size..(sample + 1) * size],
                        "sample {sample}, {params:?}"
                    );
                }
            }
        }
    }
}

/// A crop of 24 × 24 pixels after all operations but the normalisation, one after the other.
fn finished(pixels: &[u8], params: &ViewParams) -> Vec<u8> {
    let mut planes: Vec<u8> = (0..3).flat_map(|c| pixels.iter().skip(c).step_by(3).copied()).collect();
    ops::jitter(&mut planes, params.jitter.as_ref().map_or(&[][..], |ops| &ops[..]), false);
    if params.grayscale {
        ops::grayscale(&mut planes);
    }
    if let Some(sigma) = params.blur {
        ops::Blur::default().apply(&mut planes, 24, 24, sigma);
    }
    if let Some(threshold) = params.solarize {
        ops::solarize(&mut planes, threshold);
    }
    if params.flip {
        planes.chunks_exact_mut(24).for_each(<[u8]>::reverse);
    }
    if params.vertical_flip {
        ops::vertical_flip(&mut planes, 24);
    }
    ops::quarter_turns(&mut planes, 24, params.quarter_turns);
    planes
}

/// Also in a second pair of views, and in a classifier's loader, which makes view 1.
#[test]
fn each_view_has_its_own_probabilities() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(24));
    let one = Probabilities { solarize: 1.0, ..Probabilities::NONE };
    let two = Probabilities { vertical_flip: 1.0, quarter_turn: 1.0, blur: 1.0, ..Probabilities::NONE };
    let views = TwoViews { probabilities: [one, two], solarize_threshold: 77, ..views() };
    let is_first =
        |p: &ViewParams| (p.solarize, p.vertical_flip, p.quarter_turns, p.blur) == (Some(77), false, 0, None);
    let is_second = |p: &ViewParams| {
        p.solarize.is_none() && p.vertical_flip && (1..=3).contains(&p.quarter_turns) && p.blur.is_some()
    };
    for first_view in [0, 2] {
        let options = LoaderOptions { first_view, ..options() };
        for batch in Loader::two_views(Arc::clone(&source), views.clone(), options).unwrap().map(Result::unwrap) {
            assert!(batch.params[0].iter().all(is_first) && batch.params[1].iter().all(is_second), "{batch:?}");
        }
    }
    for batch in Loader::one_view(source, views, options()).unwrap().map(Result::unwrap) {
        assert!(batch.params[0].iter().all(is_first), "{batch:?}");
    }
}

#[test]
fn timed_stages_do_not_change_pixels() {
    let source: Arc<dyn Source> = Arc::new(Memory::new(36));
    let run = |time_stages| {
        let options = LoaderOptions { time_stages, ..options() };
        let mut loader = Loader::two_views(Arc::clone(&source), views(), options).unwrap();
        let batches: Vec<Batch> = loader.by_ref().map(Result::unwrap).collect();
        (batches, loader.stage_times())
    };
    let ((timed, times), (plain, none)) = (run(true), run(false));
    assert_eq!(timed, plain);
    assert_eq!((times.samples(), none.total()), (36, Duration::ZERO));
    assert!(LoadStage::ALL.iter().all(|stage| times.of(*stage) > Duration::ZERO), "{times:?}");
}
