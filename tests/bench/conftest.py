import pytest


@pytest.fixture(scope="session")
def stand(tmp_path_factory):
    """A quick stand on a random model of one layer."""
    from lenssteer.bench import Size, Stand
    from lenssteer.models.untrained import random_model

    folder = random_model(tmp_path_factory.mktemp("bench"), Size(2, 64))
    return Stand(folder, "tiny", repeats=1, quick=True)
