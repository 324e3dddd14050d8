"""What prototypes cost: the statistics of a fleet at once, and how many bytes a class needs."""

import statistics
import time

import numpy as np
import pytest
import torch
from torch.nn import functional

from edge.prototypes import ClassStatistics, StatisticsCodec
from fedsim import data
from fedsim.errors import DataError
from fedsim.federated.networks import prototype_network
from fedsim.federated.site import features_of
from fedsim.progress import Display
from fedsim.prototypes import fleet_statistics
from fedsim.prototypes.classifiers import euclidean
from fedsim.training.classifier import train_classifier
from fedsim.training.loop import Images

CLIENTS, SAMPLES, ROUNDS = 1000, 10, 5
BITS = (32, 8, 6, 5, 4, 3)
SMALLER, MOST_POINTS_LOST = 6, 0.5
MESSAGES = (1, 2, 5)  # classes of a client's message
DRAWS = 20  # of the classes of such a message

pytestmark = pytest.mark.benchmark


def one_by_one(network, images, labels):
    """Each client runs the encoder and counts."""
    return [
        ClassStatistics.of(
            features_of(network, images[start : start + SAMPLES]).numpy(), labels[start : start + SAMPLES]
        )
        for start in range(0, len(labels), SAMPLES)
    ]


def at_once(network, images, labels):
    """One pass of the encoder, one sum over clients and classes."""
    owners = np.repeat(np.arange(CLIENTS), SAMPLES)
    return fleet_statistics(features_of(network, images).numpy(), labels, owners, CLIENTS)


def seconds(function, *arguments):
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


@pytest.mark.parametrize("widths", [(4, 8, 16), (16, 32, 64)])
def test_a_fleet_at_once(report, widths):
    digits = data.load("digits")
    torch.manual_seed(0)
    network = prototype_network("digits-cnn", {"widths": list(widths)}, digits.image_shape, digits.classes)
    drawn = np.random.default_rng(0).integers(0, len(digits.x_train), CLIENTS * SAMPLES)
    images, labels = torch.from_numpy(digits.x_train[drawn]), digits.y_train[drawn]
    times = {"one_by_one": [], "at_once": [], "counting_one_by_one": [], "counting_at_once": []}
    features = features_of(network, images).numpy()
    owners = np.repeat(np.arange(CLIENTS), SAMPLES)
    split = list(zip(np.split(features, CLIENTS), np.split(labels, CLIENTS), strict=True))
    for _ in range(ROUNDS):  # alternating
        spent, alone = seconds(one_by_one, network, images, labels)
        times["one_by_one"].append(spent)
        spent, together = seconds(at_once, network, images, labels)
        times["at_once"].append(spent)
        spent, _ = seconds(lambda: [ClassStatistics.of(*part) for part in split])
        times["counting_one_by_one"].append(spent)
        spent, _ = seconds(fleet_statistics, features, labels, owners, CLIENTS)
        times["counting_at_once"].append(spent)
    worst = 0.0
    for one, other in zip(alone, together, strict=True):
        assert np.array_equal(one.classes, other.classes)
        assert np.array_equal(one.counts, other.counts)
        worst = max(worst, float((np.abs(one.sums - other.sums) / (1e-6 + np.abs(one.sums))).max()))
    assert worst <= 1e-6
    middle = {name: statistics.median(found) for name, found in times.items()}
    figures = {
        "clients": CLIENTS,
        "samples_of_each": SAMPLES,
        "encoder": f"digits-cnn, widths {list(widths)}, {features.shape[1]} features",
        "repeats": ROUNDS,
        "ms": {name: round(1e3 * found, 1) for name, found in middle.items()},
        "faster": round(middle["one_by_one"] / middle["at_once"], 1),
        "counting_alone_faster": round(middle["counting_one_by_one"] / middle["counting_at_once"], 1),
        "largest_relative_difference": worst,
    }
    report("fleet statistics", figures, {"faster": ">= 10", "largest_relative_difference": "<= 1e-6"})


def trained(backbone, arguments, images, labels, classes, epochs):
    """Features of a network that was trained to tell classes, from images uint8."""
    torch.manual_seed(0)
    network = prototype_network(backbone, arguments, images.shape[1:], classes, 64)
    with Display(quiet=True).task("training", epochs) as task:
        train_classifier(
            network,
            Images(torch.from_numpy(images), torch.from_numpy(labels)),
            epochs=epochs,
            batch_size=64,
            learning_rate=3e-3,
            generator=torch.Generator().manual_seed(0),
            task=task,
        )
    return lambda of: features_of(network, torch.from_numpy(of))


def pooled(of):
    """Images in 8x8 pixels."""
    return functional.adaptive_avg_pool2d(torch.from_numpy(of).float() / 255, 8).flatten(1)


def digits_case(embedding):
    found = data.load("digits")
    embed = pooled
    if embedding == "cnn":
        embed = trained("digits-cnn", {"widths": [16, 32, 64]}, found.x_train, found.y_train, 10, epochs=8)
    return embed, (found.x_train, found.y_train), (found.x_test, found.y_test)


def omniglot_case(embedding):
    """The evaluation characters, in an embedding trained on the background characters alone."""
    from fedsim.data.omniglot import BACKGROUND, EVALUATION

    try:
        found = data.load("omniglot")
    except DataError as error:
        pytest.skip(str(error))
    embed = pooled
    if embedding == "cnn":
        base = np.isin(found.y_train, BACKGROUND)
        embed = trained(
            "protonet-conv4", {}, found.x_train[base], found.y_train[base], len(BACKGROUND), epochs=3
        )
    parts = []
    for images, labels in ((found.x_train, found.y_train), (found.x_test, found.y_test)):
        field = np.isin(labels, EVALUATION)
        parts.append((images[field], labels[field] - EVALUATION[0]))
    return embed, *parts


@pytest.mark.parametrize("embedding", ["pixels", "cnn"])
@pytest.mark.parametrize("case", [digits_case, omniglot_case])
def test_bits_of_a_prototype(report, case, embedding):
    embed, (images, labels), (test_images, test_labels) = case(embedding)
    known = ClassStatistics.of(embed(images).numpy(), labels)
    points, classes = embed(test_images), len(known)
    codecs = {bits: StatisticsCodec(known.dimension, bits) for bits in BITS}
    found = {}
    for bits, codec in codecs.items():
        encoded = codec.encode(known)
        chosen = euclidean(points, codec.decode(encoded.payload), classes).argmax(1).numpy()
        found[bits] = (
            len(encoded.payload),
            encoded.ideal_bits / 8,
            100 * float(np.mean(chosen == test_labels)),
        )
    generator = np.random.default_rng(0)
    small = {}
    for number in (n for n in MESSAGES if n < classes):
        parts = [known.of_classes(generator.choice(classes, number, replace=False)) for _ in range(DRAWS)]
        bytes_ = {b: sum(len(codecs[b].encode(part).payload) for part in parts) for b in (32, 5)}
        small[str(number)] = round(bytes_[32] / bytes_[5], 2)
    figures = {
        "data": f"{case.__name__.removesuffix('_case')}, {classes} classes, {known.dimension} features",
        "embedding": embedding,
        "predictor": "prototypes, all classes, global test",
        "test_samples": len(test_labels),
        "bytes_a_class": {str(bits): round(size / classes, 1) for bits, (size, _, _) in found.items()},
        "ideal_bytes_a_class": {
            str(bits): round(ideal / classes, 1) for bits, (_, ideal, _) in found.items()
        },
        "accuracy": {str(bits): round(accuracy, 2) for bits, (_, _, accuracy) in found.items()},
        "smaller_at_5_bits": round(found[32][0] / found[5][0], 2),
        "points_lost_at_5_bits": round(found[32][2] - found[5][2], 2),
        "smaller_at_5_bits_in_messages_of_few_classes": small,
    }
    asked = {"smaller_at_5_bits": f">= {SMALLER}", "points_lost_at_5_bits": f"<= {MOST_POINTS_LOST}"}
    report("prototype bits", figures, asked)
