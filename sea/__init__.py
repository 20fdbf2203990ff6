"""SEA: separate learning for multimedia recommendation, a reproducible companion.

Data flows one way: `data` -> `graphs` -> `models` (with `losses` and `separate`) -> `train`
(with `evaluate`) -> `runs` -> the notebooks, which draw through `figures`.
"""
