import torch

from vlm4vla.train.objectives.imitation import vary


def test_no_variation_changes_nothing():
    images = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(vary(images, torch.ones(2, 2)), images)


def test_brightness_and_contrast_are_those_asked_for():
    image = torch.tensor([200, 40, 40], dtype=torch.uint8).expand(2, 4, 4, 3)
    varied = vary(image, torch.tensor([[1.1, 1.0], [1.0, 0.9]]))
    # 1.1 times; and 0.9 times the distance from 128, rounded down.
    assert varied[0, 0, 0].tolist() == [220, 44, 44]
    assert varied[1, 0, 0].tolist() == [192, 48, 48]
