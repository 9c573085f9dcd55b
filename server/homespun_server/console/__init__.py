"""The web console at /console: what the server knows, for people, and the decisions that are theirs.

sections     who sees what; words: numbers and times as people read them
repositories, adapters, usage, playground, overview, settings
             what a page shows, as values; no HTTP
charts       numbers to the geometry of a chart; a template draws it
http/        the routes, forms and what they may do
templates/   pages; assets/ what they load beside the layout's stylesheet
"""
