"""What a run has to say: the schema of ``report.json`` and its renderings.

``schema`` holds the data, ``storage`` reads and writes it, ``content`` decides what is said, and ``html``,
``markdown``, ``terminal`` and ``model_card`` say it. ``compare`` sets two reports side by side.
Everything but ``html`` (jinja2) and ``pictures`` (matplotlib) runs with the base install.
"""
