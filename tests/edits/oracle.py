"""The edits again, in plain float64 NumPy and straight from the papers: dense matrices, one activation at a time."""

import numpy as np


def rotation_by(h: np.ndarray, basis: np.ndarray, degrees: float) -> np.ndarray:
    """Selective Steering, Eq. 6: h' = (I - P + B R B^T) h with the d x d matrices written out."""
    b = basis.T
    theta = np.radians(degrees)
    turn = np.array([[np.cos(theta), -np.sin(theta)], [np.sin(theta), np.cos(theta)]])
    dense = np.eye(len(b)) - b @ b.T + b @ turn @ b.T
    return dense @ h


def rotation_to(h: np.ndarray, basis: np.ndarray, degrees: float) -> np.ndarray:
    """Standard Angular Steering, Eq. 2: h' = h - P h + |P h| (cos b1 + sin b2)."""
    projector = basis.T @ basis
    inside = projector @ h
    theta = np.radians(degrees)
    return h - inside + np.linalg.norm(inside) * (np.cos(theta) * basis[0] + np.sin(theta) * basis[1])


def adaptive(h: np.ndarray, basis: np.ndarray, degrees: float, threshold: float = 0.0) -> np.ndarray:
    """Adaptive Angular Steering, Eq. 3: only where the activation projects on b1 above the threshold."""
    return rotation_to(h, basis, degrees) if basis[0] @ h > threshold else h


def ablation(h: np.ndarray, direction: np.ndarray, center: np.ndarray | None = None) -> np.ndarray:
    """Directional ablation, to zero or to a centre."""
    unit = direction / np.linalg.norm(direction)
    kept = 0.0 if center is None else unit @ center
    return h - (unit @ h) * unit + kept * unit


def low_rank(h: np.ndarray, edit: dict[str, np.ndarray], norm: str = "none", radius: str = "plane") -> np.ndarray:
    """The map of the architecture page, term by term."""
    c = np.array([row @ h for row in edit["read"]]) + edit["bias"]
    r = np.linalg.norm(c) if radius == "plane" else np.linalg.norm(h - edit["read"].T @ c)
    u = edit["gain"] @ c + edit["offset"] + r * edit["radial"]
    for i in range(len(c)):
        conditions = [edit["gate"][i, j] * (c[j] - edit["threshold"][j]) > 0 for j in range(len(c)) if edit["gate"][i, j]]
        u[i] = u[i] if all(conditions) else 0.0
    new = h + sum(u[i] * edit["write"][i] for i in range(len(c)))
    if norm == "none" or not u.any():
        return new
    length = np.linalg.norm(h) if norm == "preserve" else min(np.linalg.norm(h), np.linalg.norm(new))
    return new * length / np.linalg.norm(new)
