"""The seeding guide's dataset API: `from dataset import create_dataset_with_subset`."""

from grafiqs.guide import create_dataset_with_subset

__all__ = ["create_dataset_with_subset"]
