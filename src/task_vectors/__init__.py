"""Task vectors in in-context learning: the models, tasks, prompts and interventions behind the book's notebooks.

    import task_vectors as tv

gives the names of __init__.pyi, each of which is imported when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
