"""Fine-tunes a C4 detector of Detectron2 (0.4 or newer) from a backbone of `simsiam export --format detectron2`.

    python train_net.py --config-file configs/voc0712.yaml --num-gpus 8 MODEL.WEIGHTS backbone.detectron2.pkl

The options are those of Detectron2's own training script. What is added: a norm at the end of the C4 head's last stage,
and the choice of VOC's or COCO's evaluation by the data set. See docs/detection.md.
"""

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import DefaultTrainer, default_argument_parser, default_setup, launch
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator
from detectron2.layers import get_norm
from detectron2.modeling.roi_heads import ROI_HEADS_REGISTRY, Res5ROIHeads


@ROI_HEADS_REGISTRY.register()
class NormedRes5ROIHeads(Res5ROIHeads):
    """The C4 head with a batch norm after `res5`.

    A pre-trained backbone that is fine-tuned with its batch norms in training mode gives features of another scale than
    a frozen one; the norm, which starts as the identity of statistics 0 and 1, brings them to the scale that the two
    linear predictors are initialised for.
    """

    @classmethod
    def _build_res5_block(cls, cfg):
        res5, channels = super()._build_res5_block(cfg)
        res5.add_module("norm", get_norm(cfg.MODEL.RESNETS.NORM, channels))
        return res5, channels


EVALUATORS = {
    "coco": lambda name, folder: COCOEvaluator(name, output_dir=folder),
    "pascal_voc": lambda name, folder: PascalVOCDetectionEvaluator(name),
}


class Trainer(DefaultTrainer):
    @classmethod
    def build_evaluator(cls, cfg, dataset_name, output_folder=None):
        kind = MetadataCatalog.get(dataset_name).evaluator_type
        if kind not in EVALUATORS:
            raise ValueError(f"{dataset_name} is evaluated as {kind!r}; known are {', '.join(EVALUATORS)}")
        return EVALUATORS[kind](dataset_name, output_folder or cfg.OUTPUT_DIR)


def main(args):
    cfg = get_cfg()
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.freeze()
    default_setup(cfg, args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        DetectionCheckpointer(model, save_dir=cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return Trainer.test(cfg, model)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    args = default_argument_parser().parse_args()
    launch(
        main, args.num_gpus, num_machines=args.num_machines, machine_rank=args.machine_rank, dist_url=args.dist_url,
        args=(args,),
    )  # fmt: skip
