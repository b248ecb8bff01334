"""Judges of answers: who refused, and how far a judge agrees with people."""

from lenssteer.evals.judges.agreement import Agreement, agreement
from lenssteer.evals.judges.demo import DemoJudge
from lenssteer.evals.judges.judge import Judge, Verdict
from lenssteer.evals.judges.named import JUDGES, judge_named
from lenssteer.evals.judges.phrases import PhraseJudge, refuses

__all__ = ["JUDGES", "Agreement", "DemoJudge", "Judge", "PhraseJudge", "Verdict", "agreement", "judge_named", "refuses"]
