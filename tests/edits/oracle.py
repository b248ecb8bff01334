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
    counted = [i for i in range(len(c)) if edit["write"][i].any()]
    rest = h - sum((c[i] * edit["read"][i] for i in counted), np.zeros(len(h)))
    r = np.linalg.norm(c[counted] if radius == "plane" else rest)
    u = edit["gain"] @ c + edit["offset"] + r * edit["radial"]
    for i in range(len(c)):
        conditions = [edit["gate"][i, j] * (c[j] - edit["threshold"][j]) > 0 for j in range(len(c)) if edit["gate"][i, j]]
        u[i] = u[i] if all(conditions) else 0.0
    new = h + sum(u[i] * edit["write"][i] for i in range(len(c)))
    if norm == "none" or not u.any():
        return new
    length = np.linalg.norm(h) if norm == "preserve" else min(np.linalg.norm(h), np.linalg.norm(new))
    return new * length / np.linalg.norm(new)


def addition(h: np.ndarray, vector: np.ndarray, norm: str) -> np.ndarray:
    """Addition, then the length of h ("preserve") or at most that ("cap")."""
    new = h + vector
    grown = np.linalg.norm(new) > np.linalg.norm(h)
    return new / np.linalg.norm(new) * np.linalg.norm(h) if norm == "preserve" or (norm == "cap" and grown) else new


def to_target(h: np.ndarray, direction: np.ndarray, boundary: float, target: float) -> np.ndarray:
    """StTP, Eq. 4, with the projector written out."""
    v = direction / np.linalg.norm(direction)
    return (np.eye(len(h)) - np.outer(v, v)) @ h + target * v if v @ h < boundary else h


def to_mirror(h: np.ndarray, direction: np.ndarray, boundary: float, strength: float) -> np.ndarray:
    """StMP, Eq. 5, as an affine Householder map."""
    v = direction / np.linalg.norm(direction)
    dense = np.eye(len(h)) - 2 * strength * np.outer(v, v)
    return dense @ h + 2 * strength * boundary * v if v @ h < boundary else h


def angle_in_span(h: np.ndarray, direction: np.ndarray, degrees: float) -> np.ndarray:
    """Angular Steering, appendix A: turn h in span(h, d) by the difference of the angles, with a rotation matrix."""
    d = direction / np.linalg.norm(direction)
    outside = h - (h @ d) * d
    plane = np.stack([d, outside / np.linalg.norm(outside)])
    before = np.degrees(np.arctan2(np.linalg.norm(outside), h @ d))
    return rotation_by(h, plane, degrees - before)


def _null_projector(benign: np.ndarray, ratio: float) -> np.ndarray:
    """P = U U^T over the smallest eigenvalues of H_b H_b^T; columns are samples."""
    _, vectors = np.linalg.eigh(benign @ benign.T)
    smallest = vectors[:, : int(len(benign) * ratio)]
    return smallest @ smallest.T


def alphasteer_columns(benign: np.ndarray, malicious: np.ndarray, refusal: np.ndarray, ratio: float,
                       ridge: float) -> np.ndarray:
    """The paper's Delta = Delta~* P for samples [n, d]: h' = h + strength Delta h."""
    projector, columns = _null_projector(benign.T, ratio), malicious.T
    target = np.outer(refusal, np.ones(columns.shape[1]))
    inner = projector @ columns @ columns.T @ projector.T + ridge * projector @ projector.T
    return target @ columns.T @ projector.T @ np.linalg.pinv(inner, rcond=1e-11, hermitian=True) @ projector


def alphasteer_rows(benign: np.ndarray, malicious: np.ndarray, refusal: np.ndarray, ratio: float,
                    ridge: float) -> np.ndarray:
    """The released code's W for samples [n, d]: h' = h + strength h W."""
    projector = _null_projector(benign.T, ratio)
    inside = malicious @ projector
    gram = inside.T @ inside + ridge * projector.T @ projector
    target = np.outer(np.ones(len(malicious)), refusal)
    return projector @ np.linalg.pinv(gram, rcond=1e-11, hermitian=True) @ inside.T @ target
