"""Training of bottlenecks: losses, teacher hints, distillation, and the recipes made of them."""
