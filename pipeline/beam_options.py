"""Beam's options for a job on this machine, quick to ask."""

from apache_beam.options.pipeline_options import PipelineOptions


class QuickOptions(PipelineOptions):
    """Options of which each view is made once.

    Beam asks for a view some 700 times while the graph is laid out, and every view makes an
    argument parser. Views share their values, so that one is as good as the next.
    """

    def view_as(self, cls: type[PipelineOptions]) -> PipelineOptions:
        """The view of a kind."""
        # Past Beam's own __setattr__, which takes every name for an option's.
        views: dict[type[PipelineOptions], PipelineOptions] = self.__dict__.setdefault("_views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]
