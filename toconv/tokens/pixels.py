"""Pictures → batches of pixels. The only module that knows torchvision."""

# K crops of a picture, H W pixels

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol

import torch
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from toconv.settings import MAX_PIXELS, DataSettings, EncoderSettings
from toconv.tokens import decoding
from toconv.tokens.crop_boxes import Box, crop_box
from toconv.tokens.images import Picture

LONGEST = 16  # times its shorter side is what of a picture's longer side is looked at for its centre


class Normalisation(Protocol):
    """What an encoder expects of pixels in [0, 1]."""

    @property
    def mean(self) -> tuple[float, float, float]: ...

    @property
    def std(self) -> tuple[float, float, float]: ...


class Views(NamedTuple):
    """Of one picture."""

    at_size: list[torch.Tensor]  # its crops (K, 3, H, W) at each size
    shape: tuple[int, int]  # height and width of the picture


def pixels(pictures: list[Picture], data: DataSettings, encoder: EncoderSettings) -> Iterator[torch.Tensor]:
    """For each picture its crops, (K, 3, H, W) float32, normalised for the encoder; decoded ahead by threads."""
    return (views.at_size[0] for views in pixels_at(pictures, data, encoder, [encoder.image_size]))


def pixels_at(
    pictures: Iterable[Picture], data: DataSettings, encoder: EncoderSettings, sizes: Sequence[int]
) -> Iterator[Views]:
    """As `pixels`, the same crops at each of several sizes, of a picture that is decoded once. While the encoder has a
    batch, the next two are decoded."""
    ahead = max(2 * data.workers, 2 * encoder.batch_size // data.crops)
    with ThreadPoolExecutor(data.workers) as pool:
        waiting: deque[Future[Views]] = deque()
        for picture in pictures:
            waiting.append(pool.submit(_crops_at, picture, data, encoder, sizes))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def crops(picture: Picture, data: DataSettings, encoder: EncoderSettings) -> torch.Tensor:
    """One crop: the encoder's own preprocessing (shorter side resized, centre cropped). Several: resized
    crops and flips that the seed, the picture's key and the crop's number decide."""
    return _crops_at(picture, data, encoder, [encoder.image_size]).at_size[0]


def _crops_at(picture: Picture, data: DataSettings, encoder: EncoderSettings, sizes: Sequence[int]) -> Views:
    image_3HW = decode(picture, data.max_pixels)
    height, width = image_3HW.shape[1:]
    if data.crops == 1:
        views = [[centre_view(image_3HW, size)] for size in sizes]
    else:
        boxes = [crop_box(picture.key, number, data.seed, (height, width)) for number in range(data.crops)]
        views = [[_cropped(image_3HW, box, size) for box in boxes] for size in sizes]
    return Views([normalised(at_size, encoder) for at_size in views], (height, width))


def _cropped(image_3HW: torch.Tensor, box: Box, size: int) -> torch.Tensor:
    """(3, size, size) of a box of the picture."""
    bicubic = {"interpolation": InterpolationMode.BICUBIC, "antialias": True}
    view = F.resized_crop(image_3HW, box.top, box.left, box.height, box.width, [size, size], **bicubic)
    return F.horizontal_flip(view) if box.flip else view


def centre_view(image_3HW: torch.Tensor, size: int) -> torch.Tensor:
    """(3, size, size): the shorter side resized, the centre cropped. What lies farther out than a picture's longest
    sensible side is cut off first, since resized it would fill the memory."""
    longest = LONGEST * min(image_3HW.shape[1:])
    if max(image_3HW.shape[1:]) > longest:
        image_3HW = F.center_crop(image_3HW, [min(side, longest) for side in image_3HW.shape[1:]])
    resized = F.resize(image_3HW, [size], interpolation=InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(resized, [size, size])


def normalised(views: list[torch.Tensor], encoder: Normalisation) -> torch.Tensor:
    """(3, H, W) uint8 views → (K, 3, H, W) float32 as the encoder wants them."""
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (encoder.mean, encoder.std))
    return torch.stack(views).float().div_(255).sub_(mean).div_(std)


def as_uint8(image: Any) -> torch.Tensor:
    """(3, H, W) of one of Pillow's images, the high byte of 16-bit grey; a tensor stays as it is."""
    if isinstance(image, torch.Tensor):
        return image
    if image.mode.startswith("I;16"):
        return (F.pil_to_tensor(image).int() >> 8).to(torch.uint8).expand(3, -1, -1)
    return F.pil_to_tensor(image.convert("RGB"))


def decode(picture: Picture, max_pixels: int = MAX_PIXELS) -> torch.Tensor:
    """(3, H, W) uint8, turned as EXIF says. Raises DataError that names a picture which cannot be read."""
    found = decoding.decode(picture.path, max_pixels)
    return torch.frombuffer(found.content, dtype=torch.uint8).view(found.height, found.width, 3).permute(2, 0, 1)
