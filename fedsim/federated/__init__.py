"""Federated learning with Flower: apps, strategies, and the engines that they run on."""
