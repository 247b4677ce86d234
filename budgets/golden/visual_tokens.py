"""Writes visual_tokens.tsv: how many tokens a picture takes, as the processors of transformers say.

    python visual_tokens.py > visual_tokens.tsv

Run with transformers 5.24.0, torchvision 0.29.2, num2words and Pillow, without a network: processors
are made of their classes and of the values of the public preprocessor_config.json and
processor_config.json. Each picture of at most MAX_DRAWN pixels is drawn and processed for real, and
the outcome has to be what the processor says of the size alone.

Columns: model, width, height, pictures of the record, features (tokens that stand for the picture),
all (with the tokens that the processor puts around them, and for Qwen the two of its chat template).
"-" is a size that the processor fails on.
"""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from transformers.models.gemma3 import image_processing_gemma3, processing_gemma3
from transformers.models.got_ocr2 import image_processing_got_ocr2
from transformers.models.idefics3 import image_processing_idefics3, processing_idefics3
from transformers.models.internvl import processing_internvl
from transformers.models.llava import image_processing_llava, processing_llava
from transformers.models.llava_next import image_processing_llava_next, processing_llava_next
from transformers.models.llava_onevision import image_processing_llava_onevision, processing_llava_onevision
from transformers.models.qwen2_vl import image_processing_qwen2_vl, processing_qwen2_vl
from transformers.models.smolvlm import image_processing_smolvlm, processing_smolvlm

MAX_DRAWN = 3_000_000
SIDES = [1, 2, 13, 27, 28, 29, 64, 100, 224, 336, 337, 364, 384, 448, 500, 640, 672, 1000, 1333, 2048, 4000]
SIZES = sorted(
    {(width, height) for width in SIDES for height in SIDES if (SIDES.index(width) + SIDES.index(height)) % 3 == 0}
    | {(side, side) for side in SIDES}
    | {(10000, 10), (10, 10000), (13, 4000), (4000, 13), (10000, 10000), (5000, 25), (5001, 25), (8000, 6000),
       (640, 480), (1920, 1080), (1080, 1920), (333, 499), (499, 333), (42, 42), (70, 70), (1023, 767), (3000, 2000)}
)


def tokenizer():
    words = ["<unk>", "\n\n", "<image>", "<video>", "<img>", "</img>", "<IMG_CONTEXT>", "<boi>", "<eoi>", "<soft>"]
    words += ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>", "<|image_pad|>", "<|video_pad|>"]
    words += [f"<row_{row}_col_{column}>" for row in range(1, 13) for column in range(1, 13)]
    plain = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    plain.add_special_tokens(words)
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
             "video_token": "<video>", "boi_token": "<boi>", "eoi_token": "<eoi>"}
    return PreTrainedTokenizerFast(tokenizer_object=plain, unk_token="<unk>", extra_special_tokens=named)


def qwen(patch, low, high):
    size = {"shortest_edge": low, "longest_edge": high}
    return image_processing_qwen2_vl.Qwen2VLImageProcessor(size=size, patch_size=patch, merge_size=2)


class Model:
    def __init__(self, name, processor, token, around):
        self.name, self.processor, self.token, self.around = name, processor, token, around

    def told(self, width, height):
        """Tokens of a size, by the processor alone."""
        return self.processor._get_num_multimodal_tokens(image_sizes=[[height, width]])["num_image_tokens"][0]

    def drawn(self, width, height, pictures):
        """The text in place of the first of some equal pictures, after processing them."""
        picture = torch.zeros((3, height, width), dtype=torch.uint8)
        options = dict(getattr(self.processor, "images_kwargs", {}) or {})
        batch = [[picture] * pictures] if pictures > 1 else [picture]
        outcome = self.processor.image_processor(batch, return_tensors="pt", **options)
        return self.processor.replace_image_token(dict(outcome), image_idx=0)


def made():
    onevision_grid = [[384 * rows, 384 * columns] for rows in range(1, 7) for columns in range(1, 7)]
    next_grid = [[336, 672], [672, 336], [672, 672], [1008, 336], [336, 1008]]
    side = lambda length: {"height": length, "width": length}
    video = transformers.models.smolvlm.video_processing_smolvlm.SmolVLMVideoProcessor()

    def with_token(token):
        words = tokenizer()
        words.image_token = token
        return words

    def qwen_processor(*settings):
        # The processors of Qwen2.5-VL and Qwen3-VL have the same arithmetic; their image processor
        # is this one.
        own = processing_qwen2_vl.Qwen2VLProcessor.__new__(processing_qwen2_vl.Qwen2VLProcessor)
        own.image_processor, own.image_token = qwen(*settings), "<|image_pad|>"
        own._merge_kwargs = lambda **_: {"images_kwargs": {}}
        return own

    def smol(seq, longest, patch):
        pictures = image_processing_smolvlm.SmolVLMImageProcessor(
            size={"longest_edge": longest}, max_image_size={"longest_edge": patch})
        own = processing_smolvlm.SmolVLMProcessor.__new__(processing_smolvlm.SmolVLMProcessor)
        own.image_processor, own.image_seq_len = pictures, seq
        own.image_token, own.fake_image_token, own.global_image_token = "<image>", "<fake_token_around_image>", "<global-img>"
        # SmolVLMProcessor has no count of its own; that of Idefics3 has the same text.
        own.tokenizer = tokenizer()
        own._merge_kwargs = lambda **_: {"images_kwargs": {}}
        own._get_num_multimodal_tokens = lambda **sizes: processing_idefics3.Idefics3Processor._get_num_multimodal_tokens(own, **sizes)
        return own

    internvl = processing_internvl.InternVLProcessor.__new__(processing_internvl.InternVLProcessor)
    internvl.image_processor = image_processing_got_ocr2.GotOcr2ImageProcessor(size=side(448), crop_to_patches=True)
    internvl.image_seq_length, internvl.image_token = 256, "<IMG_CONTEXT>"
    internvl.start_image_token, internvl.end_image_token = "<img>", "</img>"
    internvl._merge_kwargs = lambda **_: {"images_kwargs": {"crop_to_patches": True}}

    llava = processing_llava.LlavaProcessor(
        image_processing_llava.LlavaImageProcessor(size={"shortest_edge": 336}, crop_size=side(336)), tokenizer(),
        patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1)
    llava_next = processing_llava_next.LlavaNextProcessor(
        image_processing_llava_next.LlavaNextImageProcessor(
            size={"shortest_edge": 336}, crop_size=side(336), image_grid_pinpoints=next_grid), tokenizer(),
        patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1)
    onevision = processing_llava_onevision.LlavaOnevisionProcessor.__new__(processing_llava_onevision.LlavaOnevisionProcessor)
    onevision.image_processor = image_processing_llava_onevision.LlavaOnevisionImageProcessor(
        size=side(384), image_grid_pinpoints=onevision_grid)
    onevision.num_image_tokens, onevision.vision_feature_select_strategy = 729, "full"
    onevision.vision_aspect_ratio, onevision.image_token = "anyres_max_9", "<image>"
    onevision._merge_kwargs = lambda **_: {"images_kwargs": {}}
    idefics3 = processing_idefics3.Idefics3Processor(
        image_processing_idefics3.Idefics3ImageProcessor(
            size={"longest_edge": 4 * 364}, max_image_size={"longest_edge": 364}), tokenizer(), image_seq_len=169)
    gemma3 = processing_gemma3.Gemma3Processor.__new__(processing_gemma3.Gemma3Processor)
    gemma3.image_processor = image_processing_gemma3.Gemma3ImageProcessor(size=side(896), do_pan_and_scan=False)
    gemma3.image_seq_length = 256
    gemma3.full_image_sequence = "\n\n<boi>" + "<soft>" * 256 + "<eoi>\n\n"

    return [
        Model("qwen2-vl", qwen_processor(14, 56 * 56, 28 * 28 * 16384), "<|image_pad|>", 2),
        Model("qwen2.5-vl", qwen_processor(14, 56 * 56, 28 * 28 * 16384), "<|image_pad|>", 2),
        Model("qwen2-vl,max_pixels=1003520", qwen_processor(14, 56 * 56, 28 * 28 * 1280), "<|image_pad|>", 2),
        Model("qwen3-vl", qwen_processor(16, 256 * 256, 4096 * 4096), "<|image_pad|>", 2),
        Model("internvl", internvl, "<IMG_CONTEXT>", 0),
        Model("llava-1.5", llava, "<image>", 0),
        Model("llava-next", llava_next, "<image>", 0),
        Model("llava-onevision", onevision, "<image>", 0),
        Model("idefics3", idefics3, "<image>", 0),
        Model("smolvlm", smol(81, 1536, 384), "<image>", 0),
        Model("smolvlm-256m", smol(64, 2048, 512), "<image>", 0),
        Model("gemma3", gemma3, "<soft>", 4),
    ]


def main():
    print(f"# transformers {transformers.__version__}; see visual_tokens.py")
    print("model\twidth\theight\tpictures\tfeatures\tall")
    words = tokenizer()
    drawn = failed = 0
    for model in made():
        for width, height in SIZES:
            pictures_of = [1, 2] if model.name == "llava-onevision" and (width, height) in [(336, 336), (1920, 1080)] else [1]
            for pictures in pictures_of:
                try:
                    told = model.told(width, height)
                except (ValueError, TypeError, ZeroDivisionError):
                    failed += 1
                    print(model.name, width, height, pictures, "-", "-", sep="\t")
                    continue
                features = None
                if width * height <= MAX_DRAWN and os.environ.get("DRAW", "1") == "1":
                    try:
                        text = model.drawn(width, height, pictures)
                    except (RuntimeError, ValueError, TypeError) as error:
                        print(f"{model.name} {width}x{height}: {type(error).__name__}: {str(error)[:90]}", file=sys.stderr)
                        print(model.name, width, height, pictures, "-", "-", sep="\t")
                        failed += 1
                        continue
                    drawn += 1
                    features = text.count(model.token)
                    everything = len(words(text, add_special_tokens=False)["input_ids"])
                    if model.name in ("idefics3", "smolvlm", "smolvlm-256m"):
                        # A line feed alone is no token of this vocabulary.
                        everything = len(words(text.replace("\n\n", "<eoi>").replace("\n", "<boi>"), add_special_tokens=False)["input_ids"])
                    if model.name == "gemma3":
                        everything = features + 4
                    if pictures == 1 and everything != told + (4 if model.name == "gemma3" else 0):
                        sys.exit(f"{model.name} {width}x{height}: {everything} tokens of the text, {told} told")
                    print(model.name, width, height, pictures, features, everything + (2 if model.name.startswith("qwen") else 0), sep="\t")
                else:
                    if model.name == "internvl":
                        features = told - 2
                    elif model.name in ("idefics3", "smolvlm", "smolvlm-256m"):
                        parts = model.processor.image_processor.get_number_of_image_patches(height, width, {})[0]
                        features = model.processor.image_seq_len * max(1, parts)
                    else:
                        features = told
                    print(model.name, width, height, pictures, features, told + model.around, sep="\t")
    print(f"{drawn} drawn, {failed} failed", file=sys.stderr)


main()
