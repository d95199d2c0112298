from trt_mpq.report.data import Report
def render_html(report: Report) -> str: return ""
